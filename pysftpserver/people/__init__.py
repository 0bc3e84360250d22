"""Who may come in at doors that serve users with records: where these are kept, and what they say."""
