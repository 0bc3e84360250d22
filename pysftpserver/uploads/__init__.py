"""Everything that makes a file appear whole."""
