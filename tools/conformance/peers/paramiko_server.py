"""A server on paramiko's SFTPServer: paramiko_server.py HOST_KEY AUTHORIZED_KEYS DIRECTORY

Written from the documentation of ServerInterface, SFTPServerInterface and SFTPHandle, with each method
implemented by the matching function of os: this tests paramiko's part, and what its documentation leads to.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

import paramiko


class Login(paramiko.ServerInterface):
    """Lets one key in."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = keys

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL if key.get_base64() in self.keys else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED


def answered(call, *arguments):
    """Call a function; return the status for the client."""
    try:
        call(*arguments)
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno)
    return paramiko.SFTP_OK


class Handle(paramiko.SFTPHandle):
    """An open file, which SFTPHandle reads and writes by itself."""

    def stat(self):
        try:
            return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def chattr(self, attr):
        return answered(paramiko.SFTPServer.set_file_attr, self.filename, attr)


class Files(paramiko.SFTPServerInterface):
    """A directory of the host as /."""

    def __init__(self, server, root):
        super().__init__(server)
        self.root = root

    def real(self, path):
        return self.root + self.canonicalize(path)

    def open(self, path, flags, attr):
        path = self.real(path)
        try:
            mode = 0o666 if attr.st_mode is None else attr.st_mode
            descriptor = os.open(path, flags, mode)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        if flags & os.O_WRONLY:
            kind = "ab" if flags & os.O_APPEND else "wb"
        elif flags & os.O_RDWR:
            kind = "a+b" if flags & os.O_APPEND else "r+b"
        else:
            kind = "rb"
        handle = Handle(flags)
        handle.filename = path
        handle.readfile = handle.writefile = os.fdopen(descriptor, kind)
        return handle

    def list_folder(self, path):
        path = self.real(path)
        try:
            return [
                paramiko.SFTPAttributes.from_stat(os.lstat(os.path.join(path, name)), name)
                for name in os.listdir(path)
            ]
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def _looked(self, look, path):
        try:
            return paramiko.SFTPAttributes.from_stat(look(self.real(path)))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def stat(self, path):
        return self._looked(os.stat, path)

    def lstat(self, path):
        return self._looked(os.lstat, path)

    def remove(self, path):
        return answered(os.remove, self.real(path))

    def rename(self, oldpath, newpath):
        if os.path.lexists(self.real(newpath)):
            return paramiko.SFTP_FAILURE
        return answered(os.rename, self.real(oldpath), self.real(newpath))

    def posix_rename(self, oldpath, newpath):
        return answered(os.replace, self.real(oldpath), self.real(newpath))

    def mkdir(self, path, attr):
        path = self.real(path)
        status = answered(os.mkdir, path)
        if status == paramiko.SFTP_OK:
            return answered(paramiko.SFTPServer.set_file_attr, path, attr)
        return status

    def rmdir(self, path):
        return answered(os.rmdir, self.real(path))

    def chattr(self, path, attr):
        return answered(paramiko.SFTPServer.set_file_attr, self.real(path), attr)

    def symlink(self, target_path, path):
        return answered(os.symlink, target_path, self.real(path))

    def readlink(self, path):
        try:
            return os.readlink(self.real(path))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)


def serve(connection, host_key, keys, root):
    transport = paramiko.Transport(connection)
    transport.add_server_key(host_key)
    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files, root)
    transport.start_server(server=Login(keys))


def main(host_key, authorized_keys, root):
    with open(authorized_keys) as lines:
        keys = {line.split()[1] for line in lines if line.strip()}
    key = paramiko.Ed25519Key(filename=host_key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"listening on {listening.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection, key, keys, root), daemon=True).start()


main(*sys.argv[1:])
