"""The standalone door: an SSH server of its own, whose users are in Redis or in a file."""
