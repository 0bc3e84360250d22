"""Writes docs/conformance.md: SFTP servers tested against the rules of pysftp-probe."""
