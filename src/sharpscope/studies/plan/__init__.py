"""From a study file to its runs and tasks: expansion of the grid, checks, and an estimate of the cost."""
