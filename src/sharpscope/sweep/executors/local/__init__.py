"""Tasks in worker processes of this machine."""
