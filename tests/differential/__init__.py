"""The differential test: the same requests to OpenSSH's sftp-server and to ours must get the same replies.

OpenSSH is the reference where the draft is silent. `packets` and `session` speak to one server, `model`
is the vocabulary of requests, `twins` makes and compares the two directory trees, `compare` runs one
sequence against both servers, and `intended` is the only place where a difference is allowed.

What the reference does is not in its manual. Learned by running 9.2, and surprising:

- Statuses are errno's: ENOENT, ENOTDIR, ELOOP and EBADF are NO_SUCH_FILE, so READ on a handle for writing
  is too; EINVAL and ENAMETOOLONG are BAD_MESSAGE, so READLINK of a file and a name of 256 bytes are too.
- READ seeks before it looks at the length: of nothing it is empty DATA anywhere, also on a handle for
  writing, but BAD_MESSAGE at an offset that lseek(2) refuses. An APPEND handle is never sought.
- OPEN of a directory for reading succeeds, with a file handle. READ | TRUNC truncates.
- SETSTAT tries every attribute and answers the last failure; without any it is OK for any path.
  lsetstat with a size is BAD_MESSAGE and sets nothing.
- REALPATH takes "file/", "file/." and "file/.." but not "missing/". The empty path is the start directory
  there and for expand-path only.
- RENAME asks stat(2) about the target unless the source is a regular file, and so replaces dangling links.
- copy-data refuses two handles that were opened by the same text. It forgets errors and the end of file when
  what is left to copy fits its buffer of 64 KiB. A file copied to its own end by another name never ends.
- READDIR looks entries up by the directory's path as it was opened, and skips what it does not find there.
- home-directory answers the session's own home for every user there is (mended in later versions).
- A request of an unknown type gets no reply, and the next one none until more input arrives. At the end of
  input, requests that are already read are not answered.
"""
