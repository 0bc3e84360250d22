"""The standalone SSH server and its user directories, against real servers and clients."""
