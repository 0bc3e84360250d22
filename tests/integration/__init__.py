"""Tests that start a real ``sshd`` and drive it with the clients people use."""
