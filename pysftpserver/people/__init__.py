"""The users of doors that serve users with records: where records are kept, and what they say."""
