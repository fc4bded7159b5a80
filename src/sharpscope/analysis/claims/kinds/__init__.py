"""One file for each kind of claim, and the registry that reads a claim of any kind."""
