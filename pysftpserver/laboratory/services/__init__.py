"""The services that come with the project, one in each module."""
