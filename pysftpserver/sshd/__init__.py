"""The standalone SSH server, whose users are in Redis or in a file."""
