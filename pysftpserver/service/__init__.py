"""What every long-running door needs."""
