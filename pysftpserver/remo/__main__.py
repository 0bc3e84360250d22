"""`python -m pysftpserver.remo`: the same as `pysftpremo serve`. What may not enter: anything else."""

from __future__ import annotations


def main() -> int:
    """Run the command; return its exit status."""
    from pysftpserver.cli.pysftpremo import as_program

    return as_program("serve")


raise SystemExit(main())
