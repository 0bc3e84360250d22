"""pysftp-probe: the rules of contract/ against any SFTP server, and what clients would meet there.

It speaks SFTP through OpenSSH's ssh or through any command, and needs nothing but the standard library. What
may not enter: rules (contract/rules/), storages, and what a particular server does.
"""
