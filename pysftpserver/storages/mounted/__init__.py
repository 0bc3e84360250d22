"""The parts of the storage that mounts others in one tree (mountedstorage.py)."""
