"""The parts of the storage on file systems of the library fsspec (fsspecstorage.py)."""
