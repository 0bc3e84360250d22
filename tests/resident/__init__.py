"""Resident memory of real server processes, whatever their clients do."""
