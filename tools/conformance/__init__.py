"""Writes docs/conformance.md: SFTP servers under the rules of pysftp-probe."""
