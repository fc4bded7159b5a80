"""What a Slurm job runs: one worker that takes orders from its coordinator's folder until there are none.

The coordinator and the job exchange messages through files of the store (see `session`). The job ends when it is told
to, when its coordinator is gone (it then saves first), and when Slurm signals it:

- SIGUSR2, some time before the time limit: the task saves and stops, and the job puts itself back into the queue.
  Started again it reads its files from the beginning, finds the task unfinished and goes on.
- SIGTERM, before Slurm ends the job to make room or because it was cancelled: the task saves and stops. What becomes
  of the job is Slurm's business, so it waits to be ended; if Slurm queues it again, it goes on as above.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from sharpscope.errors import SharpscopeError
from sharpscope.sweep.executors.interface import Message
from sharpscope.sweep.executors.local.executor import LocalExecutor
from sharpscope.sweep.executors.node import MessageLog, append, open_node
from sharpscope.sweep.executors.slurm.commands import WARNING, requeue
from sharpscope.sweep.executors.slurm.session import Session
from sharpscope.sweep.executors.worker_slots import ENDS
from sharpscope.sweep.store.liveness import Liveness
from sharpscope.sweep.task import Task

COMMAND = (
    "import json, sys; session, first = sys.argv[1:]; "
    "sys.path[:] = json.load(open(session + '/setup.json', encoding='utf-8'))['path']; "
    "from sharpscope.sweep.executors.slurm.job import main; main(session, int(first))"
)
"""What Python is given with ``-c``, before the session's folder and the number of the array's first worker."""

_SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
_EAGER = 0.1  # seconds between looks for orders, at first
_LAZY = 2.0  # and at most, while a task runs or none has come for long
_REPORT_EVERY = 2.0  # seconds between notes of progress, which would otherwise fill the disk
_LOOK = 5.0  # seconds between looks at whether the coordinator lives
_GRACE = 600.0  # seconds to be ended in, after SIGTERM


def main(session: str, first: int) -> None:
    """Serve as worker number ``first`` plus the job's index in its array."""
    # Blocked rather than handled: the worker process, which Slurm signals too, inherits the block.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    array, index = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
    _Job(Session(Path(session)), first + int(index), f"{array}_{index}").serve()


class _Job:
    """The state of a job: its worker, its message logs and its orders."""

    def __init__(self, session: Session, number: int, name: str) -> None:
        self._session = session
        self._name = name
        self._orders = MessageLog(session.orders(number))
        self._events = session.events(number)
        self._liveness = Liveness(session.folder)
        self._looked = -_LOOK
        self._heard = time.monotonic()  # when there was last something new to do
        self._reported = 0.0
        self._executor: LocalExecutor | None = None
        self._task: str | None = None
        # why the task has been asked to stop: "limit", "terminated" or "orphaned"
        self._ending: str | None = None

    def serve(self) -> None:
        """Work until there is no more to do here."""
        last: dict[str, Any] = {"event": "bye"}
        try:
            self._executor = open_node(self._session.setup())
            self._tell("hello", host=socket.gethostname(), job=self._name)
            if self._take_up():
                self._work()
        except SharpscopeError as error:
            last = {"event": "broken", "reason": str(error)}
        except FileNotFoundError:  # the folder is gone, and so is the coordinator
            self._save()
        if self._executor is not None:
            self._executor.close()
        if self._ending == "limit" and self._task is not None and requeue(self._name):
            return  # not over
        if self._ending == "terminated" and self._task is not None:
            time.sleep(_GRACE)  # a job that is to be queued again must not end by itself
        with contextlib.suppress(FileNotFoundError):
            self._send(last)

    def _take_up(self) -> bool:
        """Go on with the task that an earlier start of this job has left unfinished; False when that is to go."""
        ended = sum(event["event"] in ENDS for event in MessageLog(self._events).new())
        orders = self._orders.new()
        tasks = [order["task"] for order in orders if order["do"] == "run"]
        if orders and orders[-1]["do"] != "run":  # told to stop while it waited in the queue
            return False
        if len(tasks) > ended:
            self._start(tasks[-1])
        return True

    def _work(self) -> None:
        """Follow orders and signals until one of them says to go."""
        while self._follow_orders() and self._follow_signals() and self._coordinator_lives():
            for message in self._there().wait(self._pause()):
                if message["event"] == "interrupted" and self._ending is not None:
                    return  # saved, and to go on elsewhere or later: no end of the task
                self._pass_on(message)
            if self._ending is not None and self._task is None:
                return

    def _follow_orders(self) -> bool:
        """Do what the coordinator says; False when that is to go."""
        for order in self._orders.new():
            self._heard = time.monotonic()
            if order["do"] == "run":
                self._start(order["task"])
            elif order["do"] == "stop":
                self._there().ask_to_stop()
            else:
                return False
        return True

    def _follow_signals(self) -> bool:
        """Act on what Slurm has signalled; False when there is nothing to save."""
        while (caught := signal.sigtimedwait(_SIGNALS, 0)) is not None:
            if self._task is None:
                return False
            if caught.si_signo == signal.SIGTERM:
                self._stop_for("terminated")
            elif self._ending is None:
                self._stop_for("limit")
        return True

    def _coordinator_lives(self) -> bool:
        """Look now and then whether the coordinator lives; False when it does not and there is nothing to save."""
        if time.monotonic() - self._looked < _LOOK:
            return True
        self._looked = time.monotonic()
        if self._ending is not None or self._liveness.alive(self._session.coordinator):
            return True
        self._stop_for("orphaned")
        return self._task is not None

    def _stop_for(self, why: str) -> None:
        self._ending = why
        self._tell("ending", why=why)
        self._there().ask_to_stop()

    def _pass_on(self, message: Message) -> None:
        """Tell the coordinator what the worker said."""
        now = time.monotonic()
        if message["event"] == "progress":
            if now - self._reported < _REPORT_EVERY:
                return
            self._reported = now
        elif message["event"] in ENDS:
            self._task, self._heard = None, now
        self._send(message)

    def _save(self) -> None:
        """Let the task save and stop although no coordinator is left to be told."""
        if self._executor is None or self._task is None:
            return
        self._executor.ask_to_stop()
        patience = time.monotonic() + WARNING
        while time.monotonic() < patience:
            if any(message["event"] in ENDS for message in self._executor.wait(1.0)):
                return

    def _start(self, task: dict[str, Any]) -> None:
        self._task = task["id"]
        self._there().submit(Task.from_fields(task))

    def _pause(self) -> float:
        """Return how long to listen to the worker before looking for orders and signals again."""
        quiet = time.monotonic() - self._heard
        return min(_LAZY, max(_EAGER, quiet / 10))

    def _there(self) -> LocalExecutor:
        assert self._executor is not None
        return self._executor

    def _tell(self, event: str, **fields: Any) -> None:
        self._send({"event": event, **fields})

    def _send(self, message: Message) -> None:
        append(self._events, message)
