"""pysftp-warm: processes with everything imported, for sessions that sshd starts."""
