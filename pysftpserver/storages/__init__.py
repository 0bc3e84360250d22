"""Storages by their names, and the parts of those that have several."""
