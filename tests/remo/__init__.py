"""The remo door: its protocol, its server and its client, driven by real programs of both kinds."""
