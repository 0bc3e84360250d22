"""The remote administration door, from its tokens to its commands, and who is on the path."""
