"""The storage on GridFS, against a real server over TCP."""
