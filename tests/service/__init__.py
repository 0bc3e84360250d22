"""Tests of what every long-running door needs."""
