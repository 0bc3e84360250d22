"""One session: what packets mean, what is open, what is answered."""
