"""Attempts to leave the jail, as a suite: while the tree changes under the server, and by odd trees.

`test_swapping` is the core: a process in the jail swaps directories for links as fast as it can
(`swapper`), and clients send every request there is on the swapped paths (`requests`, `clients`), to
servers that resolve paths with openat2 and to servers that walk. What lies outside is watched as a whole
(`canaries`), and every byte of every reply is searched for signs of it. `test_harness` shows that this
would be noticed: the same attempts on a jail that checks first and uses later (`naive`) get out, and are
seen to. `test_magic`, `test_mounts` and `test_paths` are the same watch over /proc, mounts, deep paths,
loops and hard links. `served` is the server's process; `place` puts all of it into one temporary directory.

Nothing here asks for anything outside of a server without a jail, and no link that the naive jail might
follow leads anywhere but to the temporary directory's own canaries.
"""
