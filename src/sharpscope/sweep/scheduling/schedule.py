"""Which tasks are left, which of them can start, and which wait for others."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from sharpscope.errors import InputError, StoreError
from sharpscope.sweep.store.store import Store
from sharpscope.sweep.task import Task


class TaskSchedule:
    """The tasks of one call, in the order they were given, and what each of them still waits for.

    A task waits for results, not for tasks: when a task produces several, those that need the first can start as soon
    as that one is there.

    Attributes are these:
        tasks: id -> task.
        there: id -> how many of the task's results the store held already, where any.
        missing: id -> the results that were missing, for every task that is left.

    Raises `InputError` for two tasks of one id, two that produce one result, and tasks that need each other in a
    circle; `StoreError` for a need that is nowhere.
    """

    def __init__(self, store: Store, tasks: Iterable[Task]) -> None:
        self.tasks: dict[str, Task] = {}
        maker: dict[str, str] = {}
        for task in tasks:
            if self.tasks.setdefault(task.id, task) != task:
                raise InputError(
                    f"two different tasks have the id '{task.id}'; derive ids from all that sets them apart"
                )
            for product in task.products:
                if maker.setdefault(product, task.id) != task.id:
                    raise InputError(
                        f"tasks '{maker[product]}' and '{task.id}' both produce '{product}'; keep one of them"
                    )
        published = store.published()
        self.there: dict[str, int] = {}
        self.missing: dict[str, tuple[str, ...]] = {}
        for task in self.tasks.values():
            missing = tuple(product for product in task.products if product not in published)
            if len(missing) < len(task.products):
                self.there[task.id] = len(task.products) - len(missing)
            if missing:
                self.missing[task.id] = missing
        self._rank = {task_id: rank for rank, task_id in enumerate(self.tasks)}
        self._by_rank = list(self.tasks)
        self._waits: dict[str, set[str]] = {}  # task -> results, for tasks that wait
        self._dependents: dict[str, list[str]] = {}  # result -> tasks
        for task_id in self.missing:
            waits = {need for need in self.tasks[task_id].needs if need not in published}
            for need in waits:
                if need not in maker:
                    raise StoreError(
                        f"task '{task_id}' needs '{need}', which is neither in the store {store.root} nor among "
                        "the tasks; add the task that makes it"
                    )
                self._dependents.setdefault(need, []).append(task_id)
            if waits:
                self._waits[task_id] = waits
        self._ready = [self._rank[task_id] for task_id in self.missing if task_id not in self._waits]
        self._refuse_circles()

    def _refuse_circles(self) -> None:
        waits = {task_id: len(needs) for task_id, needs in self._waits.items()}
        free = [task_id for task_id in self.missing if task_id not in waits]
        for task_id in free:  # grows while it is walked
            for product in self.missing[task_id]:
                for dependent in self._dependents.get(product, ()):
                    waits[dependent] -= 1
                    if not waits[dependent]:
                        free.append(dependent)
        if circle := [task_id for task_id, count in waits.items() if count]:
            raise InputError(f"tasks need each other in a circle, such as '{circle[0]}'; break it")

    def results(self) -> int:
        """Return the number of results that all tasks produce together."""
        return sum(len(task.products) for task in self.tasks.values())

    def take(self) -> Task | None:
        """Return the first task that can start, None when none can now."""
        return self.tasks[self._by_rank[self._ready.pop(0)]] if self._ready else None

    def ready(self) -> bool:
        """Return whether `take` would return a task."""
        return bool(self._ready)

    def give_back(self, task_id: str) -> None:
        """Let a task start again."""
        bisect.insort(self._ready, self._rank[task_id])

    def made(self, result: str) -> None:
        """Let the tasks start that waited for this result alone."""
        for dependent in self._dependents.pop(result, ()):
            waits = self._waits.get(dependent)
            if waits is not None:  # not blocked by another need that failed
                waits.discard(result)
                if not waits:
                    del self._waits[dependent]
                    self.give_back(dependent)

    def block(self, result: str) -> list[str]:
        """Return the tasks that can never start now that this result will not come, each of them once."""
        blocked: list[str] = []
        lost = [result]
        for current in lost:
            for dependent in self._dependents.pop(current, ()):
                if self._waits.pop(dependent, None) is not None:
                    lost.extend(self.missing[dependent])
                    blocked.append(dependent)
        return blocked
