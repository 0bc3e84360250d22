"""pysftp-probe: tests any SFTP server against the rules of contract/, and plays well-known clients to it.

It speaks SFTP through OpenSSH's ssh or through any command, and needs only the standard library. What
may not enter: rules (contract/rules/), storages, and what a particular server does.
"""
