"""The Laboratory door: a message server whose services are small classes, and clients of it."""
