"""The other ranks of a worker: processes beside it that compute a task together with it.

A worker is rank 0. It starts its peers on its own machine when a task first asks for them, tells each what to call as
a JSON line, and ends them when it ends. A peer publishes nothing. Between tasks the peers wait; where one of them
fails or dies, all are ended, and the next task gets new ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_COMMAND = (
    "import json, sys; setup = json.loads(sys.argv.pop()); sys.path[:] = setup['path']; "
    "from sharpscope.sweep.executors.local.worker import serve_as_rank; serve_as_rank(setup)"
)
_ANSWER = 60.0  # seconds that peers get to return after rank 0 has
_LAST_WORDS = 5.0  # seconds to learn why a peer failed, after rank 0 has noticed


class OtherRanks:
    """Ranks 1 … ``ranks`` - 1 of this process.

    They talk to each other over the loopback device, which no other machine reaches.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self._processes: list[subprocess.Popen[bytes]] = []
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._owed = 0
        self._meeting = tempfile.TemporaryDirectory(prefix="sharpscope-ranks-")
        self._calls = 0

    def call(self, entry: str, payload: Mapping[str, Any], workspace: Path, threads: int) -> str:
        """Let every peer call ``"module:function"`` with (payload, `Rank`); return the address where all ranks meet.

        The caller then does its own part, as rank 0, and `settle` ends the call.
        """
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform.startswith("linux") else "lo0")
        while len(self._processes) < self.ranks - 1:
            self._start(len(self._processes) + 1)
        self._calls += 1
        address = (Path(self._meeting.name) / str(self._calls)).as_uri()
        order = {"entry": entry, "payload": dict(payload), "workspace": str(workspace)}
        line = json.dumps({**order, "threads": threads, "address": address}).encode() + b"\n"
        self._owed = len(self._processes)
        for process in self._processes:
            with contextlib.suppress(OSError):  # its end is noticed by `settle`
                if process.stdin is not None:
                    process.stdin.write(line)
                    process.stdin.flush()
        return address

    def settle(self, failed: bool) -> str | None:
        """Wait until the peers have returned; return what went wrong with one of them first, None where nothing did.

        With ``failed``, where rank 0 itself raised, they are only asked for a moment why, and ended.
        """
        trouble = None
        while self._owed:
            try:
                answer = self._answers.get(timeout=_LAST_WORDS if failed else _ANSWER)
            except queue.Empty:
                trouble = None if failed else "the other ranks did not return"
                break
            self._owed -= 1
            if answer["trouble"] is not None:
                trouble = answer["trouble"]
                break
        if failed or trouble is not None:
            self.end()
        return trouble

    def end(self) -> None:
        """End the peers at once."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes, self._owed, self._answers = [], 0, queue.Queue()

    def _start(self, rank: int) -> None:
        setup = {"path": sys.path, "parent": os.getpid(), "rank": rank, "ranks": self.ranks}
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND, json.dumps(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        listener = threading.Thread(target=_listen, args=(process, rank, self._answers), daemon=True)
        listener.start()


def _listen(process: subprocess.Popen[bytes], rank: int, answers: queue.Queue[dict[str, Any]]) -> None:
    stream: IO[bytes] | None = process.stdout
    if stream is not None:
        with stream:
            for line in stream:
                if line.endswith(b"\n"):
                    answers.put(json.loads(line))
    answers.put({"trouble": f"rank {rank} ended with status {process.wait()}, possibly out of memory"})


class Rank:
    """What a peer's function is given beside its payload: which rank it is, and where the ranks meet."""

    def __init__(self, rank: int, ranks: int, order: Mapping[str, Any]) -> None:
        self.rank, self.ranks, self.address = rank, ranks, str(order["address"])
        self.workspace, self.threads = Path(order["workspace"]), int(order["threads"])
