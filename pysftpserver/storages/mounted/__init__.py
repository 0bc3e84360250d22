"""The parts of the storage that has others in one tree (mountedstorage.py)."""
