"""The commands of the pages: each is run, or listed with the test that runs its like, or with a reason."""
