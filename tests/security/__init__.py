"""Attempts to leave the jail, as a suite: while the tree changes under the server, and by odd trees.

`python -m nose2 -s tests -t . tests.security` runs it. `test_swapping` is the core: a process in the jail
(`swapper`, on what `layout` says) swaps directories for links out as fast as it can, and clients (`clients`)
send every request there is on the swapped paths (`attempts`), to servers that resolve paths with openat2
and to servers that walk (`served`). What lies outside is watched as a whole, and every byte of every reply
is searched for signs of it (`canaries`). `test_harness` shows that this would be noticed: a jail that checks
first and uses later (`naive`) is caught. `test_magic`, `test_mounts` and `test_paths` keep the same watch
over /proc, mounts, long paths, deep trees, loops, hard links, and a jail that is itself moved away.
`premises` puts all of it into one temporary directory, in memory where there is such a file system (TMPDIR
overrides that). A failure tells its seed; ESCAPE_SEED in the environment makes a run send the same requests,
though not at the same moments.

A jail that fails must harm nobody: no link that the naive jail might follow leads anywhere but to the
canaries, and run by root, servers can write nowhere but in the temporary directory (`served.protect`).

`test_sandbox` and `test_sandbox_logs` are about the sandbox: `guest` is a plugin that tries to get out of it,
`without` runs a server as on a kernel that lacks what it is made of.
"""
