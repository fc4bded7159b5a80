"""Which task runs next: the grid of a study, the order of tasks, and the coordinator that works through them.

`grid` expands a grid of settings, `schedule` knows which tasks can start, `coordinator` follows each to its outcome,
`run` is the call that does all of that, and `progress` estimates the time left from its events.
"""
