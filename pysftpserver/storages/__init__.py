"""Opens storages by name, and holds the parts of storages that have several."""
