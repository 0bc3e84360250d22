"""The SK Sync door, from its formulas to its commands."""
