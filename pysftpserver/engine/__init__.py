"""One session: the meaning of packets, the open files, and the replies."""
