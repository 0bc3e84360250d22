"""The SK Sync door, from its formulas to its commands, with peers that behave and peers that do not."""
