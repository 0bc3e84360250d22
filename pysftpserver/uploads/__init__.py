"""Receives uploads in temporary files and renames them into place when they are complete."""
