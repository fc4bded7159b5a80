"""Tasks as jobs of a Slurm cluster."""
