"""The commands: parsing of arguments, one module each. The work is done elsewhere."""
