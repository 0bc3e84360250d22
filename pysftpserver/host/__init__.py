"""What only Linux offers: system calls, entries, accounts, the sandbox."""
