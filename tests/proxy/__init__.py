"""The storage on another SFTP server, with OpenSSH's own behind it."""
