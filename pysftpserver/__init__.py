"""pysftpserver: one storage API, many doors.

The package itself imports nothing: every door and every storage is a separate module, so that a session
loads only what it uses.
"""

__version__ = "2.0.0.dev0"
