"""Parts of the storage on object stores (objectstorage.py)."""
