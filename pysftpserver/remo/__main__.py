"""`python -m pysftpserver.remo`: the same as `pysftpremo serve`. What may not enter: anything else."""

from __future__ import annotations

from pysftpserver.cli.pysftpremo import as_program

raise SystemExit(as_program("serve"))
