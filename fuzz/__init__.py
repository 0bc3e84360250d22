"""Fuzzing; README.md describes the targets and how to run them."""
