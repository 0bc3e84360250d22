"""Tests of what only Linux gives, and of whole files of the host."""
