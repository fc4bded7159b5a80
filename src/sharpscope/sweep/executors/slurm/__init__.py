"""Tasks as jobs of a Slurm cluster.

`executor` queues jobs and follows them, `job` is what each of them runs, `session` the folder through which the two
exchange messages, `commands` the commands of Slurm.
"""
