"""The parts of the storage on MongoDB's GridFS. What they are together is in mongostorage.py."""
