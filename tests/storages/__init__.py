"""Tests of the storages and of their names."""
