"""Benchmarks: pysftpjail beside OpenSSH's sftp-server, in turn in one run. `make bench` runs them."""
