"""The commands, installed as plain scripts, and their manual pages; everything else is in pyproject.toml.

They are scripts and not entry points because the wrapper that an entry point generates imports more than
the command itself, and an SFTP server starts once for every session. pip writes the interpreter of the
environment it installs into on their first line. What is in bin/ is installed; pysftpserver/cli/registry.py
says what each is for.

Manual pages and completion are made at each installation, from the tables in the code and with the standard
library alone (tools/manual). They go below share/ of the environment, where man and the shells look.
"""

import sys
from glob import glob
from pathlib import Path

from setuptools import Distribution, setup

from distutils.command.install_data import install_data  # isort: skip  # setuptools', once that is imported

ROOT = Path(__file__).resolve().parent


class InstallManual(install_data):
    """Writes the files that tools/manual makes."""

    def run(self) -> None:
        sys.path.insert(0, str(ROOT))
        sys.dont_write_bytecode = True  # a build leaves nothing in the sources
        from tools import manual

        for name, text in manual.files().items():
            path = Path(self.install_dir, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.outfiles.append(str(path))


class Project(Distribution):
    """Has data files, although none is there before the installation."""

    def has_data_files(self) -> bool:
        return True

    has_data = has_data_files  # what editable installations ask


setup(
    scripts=sorted(path for path in glob("bin/*") if "." not in path),
    distclass=Project,
    cmdclass={"install_data": InstallManual},
)
