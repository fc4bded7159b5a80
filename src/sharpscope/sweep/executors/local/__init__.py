"""Tasks in processes of this machine: `executor` starts and follows them, `worker` is what each of them runs."""
