"""The tests of pysftp-warm."""
