"""The parts of the storage on MongoDB's GridFS; mongostorage.py puts them together."""
