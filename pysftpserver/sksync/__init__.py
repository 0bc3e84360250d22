"""The SK Sync door: a server and a client, each of which synchronises a storage with the other side's."""
