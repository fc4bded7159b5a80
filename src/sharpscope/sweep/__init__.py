"""Carry out many tasks, each once, whatever happens to the machine in between.

A study becomes `Task` objects (`expand` builds the grid), `run_tasks` works through those that a `Store` does
not hold yet, and every result appears in the store whole or not at all. Any number of such calls may share a store.
`SweepProgress` turns the events into rates and time left, and `activity` says which coordinator runs which task. The
package knows tasks, hashes and folders, and nothing of what the tasks compute.
"""

from sharpscope.sweep.executors import Executor, LocalExecutor
from sharpscope.sweep.executors.local.peers import Rank
from sharpscope.sweep.executors.worker_environment import usable_cores
from sharpscope.sweep.scheduling.coordinator import Summary
from sharpscope.sweep.scheduling.grid import GridBlock, block_named, expand, is_range
from sharpscope.sweep.scheduling.progress import Snapshot, SweepProgress
from sharpscope.sweep.scheduling.run import run_tasks
from sharpscope.sweep.store.activity import CoordinatorState, RunningTask, activity, at_work
from sharpscope.sweep.store.manifest import read_published
from sharpscope.sweep.store.store import Failure, Store
from sharpscope.sweep.task import Interrupted, Task, TaskContext

__all__ = [
    "CoordinatorState",
    "Executor",
    "Failure",
    "GridBlock",
    "Interrupted",
    "LocalExecutor",
    "Rank",
    "RunningTask",
    "Snapshot",
    "Store",
    "Summary",
    "SweepProgress",
    "Task",
    "TaskContext",
    "activity",
    "at_work",
    "block_named",
    "expand",
    "is_range",
    "read_published",
    "run_tasks",
    "usable_cores",
]
