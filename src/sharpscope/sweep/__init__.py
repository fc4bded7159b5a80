"""Carry out many tasks, each once, whatever happens to the machine in between.

A study becomes `Task` objects (`expand` builds the grid), `run_tasks` works through those that a `Store` does
not hold yet, and every result appears in the store whole or not at all. Any number of such calls may share a store.
`Progress` turns the events into rates and time left, `activity` says who is at what, `find_damage` which results are
no longer what was published. The package knows tasks, hashes and folders, and nothing of what the tasks compute.
"""

from sharpscope.sweep.executors import Executor, LocalExecutor
from sharpscope.sweep.executors.context import Interrupted, TaskContext
from sharpscope.sweep.executors.cores import usable_cores
from sharpscope.sweep.scheduling.activity import Coordinator, Running, activity, at_work
from sharpscope.sweep.scheduling.coordinator import Summary
from sharpscope.sweep.scheduling.plan import GridBlock, Task, expand
from sharpscope.sweep.scheduling.progress import Progress, Snapshot
from sharpscope.sweep.scheduling.run import run_tasks
from sharpscope.sweep.store.damage import find_damage, made_from
from sharpscope.sweep.store.manifest import read_published
from sharpscope.sweep.store.store import Failure, Store

__all__ = [
    "Coordinator",
    "Executor",
    "Failure",
    "GridBlock",
    "Interrupted",
    "LocalExecutor",
    "Progress",
    "Running",
    "Snapshot",
    "Store",
    "Summary",
    "Task",
    "TaskContext",
    "activity",
    "at_work",
    "expand",
    "find_damage",
    "made_from",
    "read_published",
    "run_tasks",
    "usable_cores",
]
