"""Tests of pysftp-probe."""
