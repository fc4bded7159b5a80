"""Carry out many tasks, each once, whatever happens to the machine in between.

A study becomes `Task` objects (`expand` builds the grid), `run_tasks` works through those that a `Store` does
not hold yet, and every result appears in the store whole or not at all. Any number of such calls may share a store.
`Progress` turns the events into rates and time left, `activity` says who is at what, `find_damage` which results are
no longer what was published. The package knows tasks, hashes and folders, and nothing of what the tasks compute.
"""

from sharpscope.sweep.activity import Coordinator, Running, activity, at_work
from sharpscope.sweep.canonical import canonical_json, content_hash
from sharpscope.sweep.context import Interrupted, TaskContext
from sharpscope.sweep.coordinator import Summary
from sharpscope.sweep.cores import usable_cores
from sharpscope.sweep.damage import find_damage, made_from
from sharpscope.sweep.executors import Executor, LocalExecutor
from sharpscope.sweep.manifest import read_published
from sharpscope.sweep.plan import GridBlock, Task, expand
from sharpscope.sweep.progress import Progress, Snapshot
from sharpscope.sweep.run import run_tasks
from sharpscope.sweep.store import Failure, Store

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
    "canonical_json",
    "content_hash",
    "expand",
    "find_damage",
    "made_from",
    "read_published",
    "run_tasks",
    "usable_cores",
]
