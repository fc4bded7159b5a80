"""Work through tasks until each has a result, a recorded failure, or the user says stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.sweep.executors import Executor, LocalExecutor, Message
from sharpscope.sweep.scheduling.coordinator import Coordinator, Summary
from sharpscope.sweep.scheduling.schedule import TaskSchedule
from sharpscope.sweep.store.liveness import SILENCE
from sharpscope.sweep.store.sharing import Sharing
from sharpscope.sweep.store.store import Store
from sharpscope.sweep.task import Task


def run_tasks(
    store: Store,
    tasks: Iterable[Task],
    *,
    workers: int | None = None,
    threads: int = 1,
    on_event: Callable[[Message], None] | None = None,
    executor: Executor | None = None,
    silence: float = SILENCE,
) -> Summary:
    """Do every task the store has no result of, in the given order where their needs allow.

    Any number of these calls may share a store, in other processes and on other machines. A task is leased before it
    is started, so that they share the tasks out, and what one publishes the others go on from. Each returns when all
    of its tasks have an outcome, whoever brought it about. A call that dies loses its leases, at once to others of
    its machine and after `silence` to others elsewhere, who then go on from what its tasks had saved.

    Arguments are these:
        store: where results go, and where earlier ones are found.
        tasks: equal ones count once; a task may need others of this call or already in the store.
        workers: processes at a time; by default the usable cores divided by `threads`.
        threads: threads of each computation; results may depend on it in their last bits, hence 1.
        on_event: told of everything as tables (see below).
        executor: another place to run than processes of this machine; it then decides `workers` and `threads`.
        silence: seconds without a sign of life after which a coordinator of another machine counts as dead.

    An exception in a task is recorded in the store with its traceback and fails that task alone; tasks that need it
    are blocked. A task whose worker dies is tried again, up to 3 times. Failed tasks are tried again by the next
    call. The first Ctrl-C (or SIGTERM) asks running tasks to save and stop and waits for them, the second kills
    them; either way the summary says ``interrupted`` and the next call goes on from there. Whatever dies,
    including this process, no result is ever published half.

    Every event has the keys ``event``, ``task``, ``label``, ``kind`` and ``results``, how many results it is about;
    beside those:

    - ``plan`` (first; no task): ``total``, a table kind -> number of results, and ``workers``;
    - ``skipped``; ``start``: ``worker``, ``resumed``; ``progress``: what the task reports; ``log``: ``text``;
    - ``done``: ``seconds``; ``failed``: ``reason``, ``traceback``; ``blocked``: ``because``, the id that failed; the
      first two with ``elsewhere`` true and no ``seconds`` when another coordinator did the task;
    - ``crashed``: ``reason``, ``attempt``; ``interrupted``: the task has saved and stopped; ``overtaken``: another
      coordinator has taken it over, since this one was suspended for longer than others wait;
    - ``peers`` (no task), whenever it changes: how many other ``coordinators`` there are, and their ``workers``;
    - ``stopping`` (no task): ``running``, how many tasks are waited for, and ``why``.

    Raises `InputError` for tasks that need each other in a circle or share an id, and `StoreError` for a need that is
    nowhere and when the store cannot be written: running tasks are then stopped first.
    """
    schedule = TaskSchedule(store, tasks)
    if schedule.missing:  # a finished study in a read-only store is no error
        store.prepare()
    own = LocalExecutor(store.root, workers, threads) if executor is None else executor
    emit = on_event or (lambda event: None)
    try:
        with contextlib.ExitStack() as stack:
            sharing = Sharing(store.root, own.workers, silence)
            coordinator = Coordinator(store, schedule, own, sharing, emit)
            if schedule.missing:
                stack.enter_context(sharing)
            interrupts = stack.enter_context(Interrupts())
            try:
                return coordinator.run(lambda: interrupts.count)
            except BaseException:
                own.kill()
                raise
            finally:
                own.close()
    finally:
        # What killed workers left behind. An error here must not hide the outcome.
        with contextlib.suppress(StoreError):
            store.remove_garbage()


class Interrupts:
    """Counts Ctrl-C and SIGTERM while a ``with`` block runs, instead of ending the work at an arbitrary place.

    Python catches signals in its main thread only; in any other thread this counts nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.count += 1
