"""The rules, a module a subject; importing this fills the table, in the order of the modules here.

What may not enter: how a rule is run, and what a server is (subject.py has both).
"""

from __future__ import annotations

from pysftpserver.contract.rules import links as links
from pysftpserver.contract.rules import listings as listings
from pysftpserver.contract.rules import longnames as longnames
from pysftpserver.contract.rules import names as names
from pysftpserver.contract.rules import order as order
from pysftpserver.contract.rules import paths as paths
from pysftpserver.contract.rules import protocol as protocol
from pysftpserver.contract.rules import renames as renames
from pysftpserver.contract.rules import statvfs as statvfs
from pysftpserver.contract.rules import tree as tree
from pysftpserver.contract.table import RULES, Rule

__all__ = ["MODULES", "RULES", "Rule"]

#: In the order in which reports show them.
MODULES = (
    protocol,
    order,
    names,
    paths,
    links,
    listings,
    longnames,
    tree,
    renames,
    statvfs,
)
