"""The rules, one module per subject; importing this fills the table, in the order of the modules here.

What may not enter: how a rule is run, and what a server is (subject.py has both).
"""

from __future__ import annotations

from pysftpserver.contract.rules import (
    attributes,
    checksums,
    copying,
    data,
    ending,
    extensions,
    files,
    handles,
    links,
    listings,
    longnames,
    malformed,
    names,
    opens,
    order,
    paths,
    protocol,
    renames,
    statvfs,
    tree,
)
from pysftpserver.contract.table import RULES, Rule

__all__ = ["MODULES", "RULES", "Rule"]

#: In the order in which reports show them.
MODULES = (
    protocol,
    opens,
    files,
    data,
    handles,
    attributes,
    names,
    paths,
    links,
    listings,
    longnames,
    tree,
    renames,
    statvfs,
    order,
    malformed,
    extensions,
    copying,
    checksums,
    ending,
)
