"""What is handed out: distributions, the Debian package, the container image, each installed as people do."""
