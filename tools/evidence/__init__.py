"""`make evidence`: runs what proves the project's claims, and writes docs/evidence.md."""
