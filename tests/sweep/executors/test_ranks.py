"""Several ranks for one task: the others join it, and what becomes of them is told in one sentence."""

from __future__ import annotations

import psutil
import pytest

from sharpscope.errors import InputError
from sharpscope.sweep import LocalExecutor, Store, Task, TaskContext, run_tasks
from sharpscope.sweep.executors.interface import Resources


def task(name, **payload):
    return Task(name, "runs", "sweep.fake_tasks:joined", {"value": name, **payload})


def test_other_ranks_join_task_after_task_and_one_that_fails_is_told_and_replaced(tmp_path):
    tasks = [
        task("a", join="other_rank"),
        task("b", join="other_rank_fails"),
        task("c", join="other_rank_fails", die=True),
        task("d", join="other_rank", raises=True),
        task("e", join="other_rank"),
    ]
    store = Store(tmp_path / "store")
    starts = []

    def watch(event):
        if event["event"] == "start":
            worker = psutil.Process(int(event["where"].rsplit("-", 2)[1]))
            starts.append([child.pid for child in worker.children()])

    summary = run_tasks(store, tasks, executor=LocalExecutor(store.root, 1, ranks=3), on_event=watch)
    assert (summary.done, summary.failed) == (2, 3)
    for name in ("a", "e"):
        assert (store.path(name) / "value.txt").read_text() == f"1 of 3 for {name} 2 of 3 for {name}"
    why = {failure.id: failure.reason for failure in summary.failures}
    assert why["b"] in {
        f"on rank {rank}, lr is -1 and must be positive; choose another; the other ranks had to stop"
        for rank in (1, 2)
    }
    assert "ended with status -9, possibly out of memory; the other ranks had to stop" in why["c"]
    assert why["d"] == "RuntimeError: connection closed by peer"
    assert not any(psutil.pid_exists(pid) for pids in starts for pid in pids), "nobody outlives the sweep"
    assert len({tuple(pids) for pids in starts if pids}) >= 1


def test_ranks_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is one rank, so that no other can call"):
        TaskContext(tmp_path, tmp_path).join("sweep.fake_tasks:other_rank", {})
    with pytest.raises(InputError, match="ranks is 0 and a worker needs at least 1"):
        LocalExecutor(tmp_path, 1, ranks=0)
    with pytest.raises(InputError, match="gpus is 0.5 and each of 2 ranks needs a GPU of its own"):
        Resources(gpus=0.5, ranks=2)
    assert Resources(gpus=1, ranks=2).on_gpus(5) == 2
    assert Resources(threads=2, ranks=3).cores == 6
