"""Block Davidson with a subset of the data as preconditioner."""
