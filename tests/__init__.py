"""Tests: one module for each of the package, and directories for tests with real programs."""
