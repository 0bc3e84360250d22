"""Tests of the door under OpenSSH."""
