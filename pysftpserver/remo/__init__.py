"""The remote administration door: files and commands over plain HTTP, encrypted from end to end."""
