"""The commands: parsing of arguments, one module each. What they do is elsewhere."""
