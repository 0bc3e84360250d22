"""What only Linux gives: system calls, entries, accounts, the sandbox."""
