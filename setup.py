"""The commands, installed as plain scripts; everything else is in pyproject.toml.

They are scripts and not entry points because the wrapper that an entry point generates imports more than
the command itself, and an SFTP server starts once for every session. pip writes the interpreter of the
environment it installs into on their first line. What is in bin/ is installed; the list with
what each is for is pysftpserver/cli/registry.py.
"""

from glob import glob

from setuptools import setup

setup(scripts=sorted(path for path in glob("bin/*") if "." not in path))
