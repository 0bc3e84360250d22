"""Fuzzing: README.md says what there is and how to run it."""
