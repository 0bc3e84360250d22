"""The commands, installed as plain scripts; everything else is in pyproject.toml.

They are scripts and not entry points because the wrapper that an entry point generates imports more
than the command itself, and an SFTP server starts once for every session. pip writes the interpreter of
the environment it installs into on their first line. Add your own command to the list.
"""

from setuptools import setup

SCRIPTS = [
    "bin/add_user",
    "bin/build_key_pair",
    "bin/pysftp-keys",
    "bin/pysftpctl",
    "bin/pysftpd",
    "bin/pysftpjail",
    "bin/pysftplab",
    "bin/pysftpmongo",
    "bin/pysftpremo",
    "bin/pysftpserver",
    "bin/pysksync",
]

setup(scripts=SCRIPTS)
