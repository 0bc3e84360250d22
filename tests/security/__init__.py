"""Attempts to escape from the jail: while the tree changes under the server, and with unusual trees.

`python -m nose2 -s tests -t . tests.security` runs it. `test_swapping` is the core: a process in the jail
(`swapper`, on what `layout` says) swaps directories for links out as fast as it can, and clients (`clients`)
send every request there is on the swapped paths (`attempts`), to servers that resolve paths with openat2
and to servers that walk (`served`). What lies outside is watched as a whole, and every byte of every reply
is searched for signs of it (`canaries`). `test_harness` shows that this detects escapes: it catches a jail
that checks first and uses later (`naive`). `test_magic`, `test_mounts` and `test_paths` watch the outside in
the same way, with /proc, mounts, long paths, deep trees, loops, hard links, and a jail that is moved away.
`premises` puts everything into one temporary directory, in memory if there is such a file system (TMPDIR
overrides that). A failure reports its seed; ESCAPE_SEED in the environment makes a run send the same
requests, though not at the same moments.

A jail that fails must do no harm: links that the naive jail might follow lead only to the canaries, and as
root, servers can write only in the temporary directory (`served.protect`).

`test_sandbox` and `test_sandbox_logs` test the sandbox: `guest` is a plugin that tries to escape from it,
`without` runs a server as on a kernel without the system calls that it uses.
"""
