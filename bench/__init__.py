"""Benchmarks: pysftpjail and OpenSSH's sftp-server, in turn in one run. `make bench` runs them."""
