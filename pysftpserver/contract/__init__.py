"""What an SFTP server and a storage have to do: the table of rules, and the storage contract suite.

suite.py is the suite for storages; rules/ has rules about what a client can see, which pysftp-probe runs
against any server. What may not enter: concrete storages, doors.
"""
