"""pysftpserver: one storage API, many doors.

The package itself imports nothing: every door and every storage is a module of its own, so that a
session pays at start-up only for what it uses.
"""

__version__ = "2.0.0.dev0"
