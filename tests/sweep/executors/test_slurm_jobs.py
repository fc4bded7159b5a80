"""The Slurm executor and its jobs, without Slurm: what becomes of tasks when jobs end in each way they can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sharpscope.errors import InputError, SharpscopeError
from sharpscope.sweep import Store, Task, run_tasks
from sharpscope.sweep.executors.slurm import executor as slurm
from sharpscope.sweep.executors.slurm.executor import SlurmExecutor
from sweep.executors.fake_slurm import FakeSlurm
from sweep.test_chaos import published, study

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Slurm is for Linux")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def cluster(tmp_path):
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(slurm, "_ASK_SOON", 0.2)


def executor(store, cluster, workers=2):
    return SlurmExecutor(store.root, workers=workers, cluster=cluster, ask_every=0.5)


def task(task_id, function="count", **payload):
    return Task(task_id, "runs", f"sweep.fake_tasks:{function}", payload)


def garbage(store):
    return [p for name in ("tmp", "work", "leases", ".slurm") for p in (store.root / name).glob("*")]


def go(store, cluster, tasks, meddle=None, workers=2):
    """Run tasks; `meddle` is called with every event that a task has made a step. Return summary and events."""
    events = []

    def watch(event):
        events.append(event)
        if meddle is not None and event["event"] == "progress":
            meddle(event)

    summary = run_tasks(store, tasks, executor=executor(store, cluster, workers), on_event=watch)
    all_over(cluster)
    return summary, events


def all_over(cluster):
    """A job's last events come just before its end."""
    patience = time.monotonic() + 10
    while cluster.running() and time.monotonic() < patience:
        time.sleep(0.02)
    assert cluster.running() == []


def once(act, worker=1):
    """Return a function that acts when it first hears of a step made by a worker, by the first one's number."""
    acted = []

    def meddle(event):
        if event["worker"] == worker and not acted:
            acted.append(event)
            act(event)

    return meddle


def starts(events):
    return [event["resumed"] for event in events if event["event"] == "start"]


def test_an_array_of_workers_does_the_work_and_leaves_what_a_laptop_leaves(store, cluster, tmp_path):
    summary, _ = go(store, cluster, study(), workers=3)
    assert (summary.done, summary.failed) == (21, 0)
    assert cluster.arrays == [3]
    plain = Store(tmp_path / "plain")
    run_tasks(plain, study(), workers=2)
    assert published(store) == published(plain)
    assert garbage(store) == []
    assert not (store.root / ".slurm").exists()


def test_a_cancelled_job_has_lost_its_task_which_another_job_goes_on_with(store, cluster):
    tasks = [task(f"t{i}", steps=200, factor=i) for i in range(2)]
    summary, events = go(store, cluster, tasks, once(lambda event: cluster.end("101_0", "CANCELLED")))
    assert (summary.done, summary.failed) == (2, 0)
    (crash,) = [event for event in events if event["event"] == "crashed"]
    assert crash["reason"] == "its Slurm job 101_0 was cancelled"
    assert starts(events) == [False, False, True]
    assert cluster.arrays == [2, 1]
    assert garbage(store) == []


def test_a_job_that_is_cancelled_again_and_again_fails_its_task(store, cluster):
    cancelled = []

    def cancel(event):
        job = cluster.running()[0]
        if job not in cancelled:
            cancelled.append(job)
            cluster.end(job, "OUT_OF_MEMORY")

    summary, _ = go(store, cluster, [task("t", steps=500, factor=1)], cancel, workers=1)
    assert (summary.done, summary.failed) == (0, 1)
    assert summary.failures[0].reason.startswith("tried 3 times and its Slurm job 103_0 ran out of memory")
    assert cancelled == ["101_0", "102_0", "103_0"]


def test_a_job_that_makes_room_goes_on_when_it_is_started_again(store, cluster):
    tasks = [task(f"t{i}", steps=200, factor=i) for i in range(2)]
    summary, events = go(store, cluster, tasks, once(lambda event: cluster.preempt("101_1"), worker=2))
    assert (summary.done, summary.failed) == (2, 0)
    assert [event for event in events if event["event"] == "crashed"] == []
    assert starts(events) == [False, False, True]
    assert cluster.starts == ["101_0", "101_1", "101_1"]


def test_a_job_that_nears_its_time_limit_saves_and_queues_itself_again(store, cluster):
    tasks = [task(f"t{i}", steps=200, factor=i) for i in range(2)]
    limit = once(lambda event: cluster.send("101_0", signal.SIGUSR2))
    summary, events = go(store, cluster, tasks, limit)
    assert (summary.done, summary.failed) == (2, 0)
    assert [event for event in events if event["event"] in ("crashed", "interrupted")] == []
    assert starts(events) == [False, False, True]
    assert cluster.starts == ["101_0", "101_1", "101_0"]
    assert garbage(store) == []


def test_a_job_that_may_not_be_queued_again_hands_its_task_to_another(store, tmp_path):
    cluster = FakeSlurm(tmp_path / "bin", allow_requeue=False)
    limit = once(lambda event: cluster.send("101_0", signal.SIGUSR2))
    summary, events = go(store, cluster, [task("t", steps=200, factor=2)], limit, workers=1)
    assert summary.done == 1
    assert [event for event in events if event["event"] == "crashed"] == []
    assert starts(events) == [False, True]
    assert cluster.starts == ["101_0", "102_0"]


def test_a_job_lost_with_its_node_costs_no_attempt(store, cluster):
    summary, events = go(
        store,
        cluster,
        [task("t", steps=200, factor=2)],
        once(lambda event: cluster.end("101_0", "NODE_FAIL")),
        workers=1,
    )
    assert summary.done == 1
    assert [event for event in events if event["event"] == "crashed"] == []
    assert starts(events) == [False, True]


def test_ctrl_c_saves_and_the_next_call_goes_on_from_there(store, cluster):
    tasks = [task(f"t{i}", steps=150, factor=i) for i in range(4)]
    stop = once(lambda event: os.kill(os.getpid(), signal.SIGINT))
    summary, events = go(store, cluster, tasks, stop)
    assert summary.interrupted
    assert (summary.done, summary.failed) == (0, 0)
    assert sum(event["event"] == "interrupted" for event in events) == 2
    saved = len(list(store.root.glob("work/*/count.txt")))
    assert 1 <= saved <= 2
    assert not (store.root / ".slurm").exists()
    summary, events = go(store, cluster, tasks)
    assert (summary.done, summary.interrupted) == (4, False)
    assert sum(starts(events)) == saved


def test_ctrl_c_does_not_wait_for_a_job_that_waits_in_the_queue(store, cluster, monkeypatch):
    states = cluster.states
    queued = []
    # Ended to make room, and not started again for as long as we look.
    monkeypatch.setattr(
        cluster,
        "states",
        lambda: {job: "PENDING" if job in queued else state for job, state in states().items()},
    )

    def preempt(event):
        queued.append("101_0")
        cluster.end("101_0", "PREEMPTED")
        os.kill(os.getpid(), signal.SIGINT)

    summary, events = go(store, cluster, [task("t", steps=500, factor=1)], once(preempt), workers=1)
    assert summary.interrupted
    assert [event["event"] for event in events][-1] == "interrupted"


def test_ctrl_c_twice_kills(store, cluster):
    begin = time.monotonic()

    def act(event):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    events = []

    def watch(event):
        events.append(event)
        if event["event"] == "start":
            act(event)

    summary = run_tasks(
        store, [task("a", "stubborn", seconds=60)], executor=executor(store, cluster), on_event=watch
    )
    assert summary.interrupted
    assert time.monotonic() - begin < 30
    all_over(cluster)
    assert published(store) == {}


def test_jobs_that_cannot_start_are_reported_with_what_they_printed(store, cluster, monkeypatch):
    monkeypatch.setattr(slurm, "COMMAND", "raise SystemExit('no such thing as torch')")
    with pytest.raises(
        SharpscopeError, match=r"cannot start \(Slurm job 10\d_0 failed: no such thing as torch"
    ):
        go(store, cluster, [task("a", "write", value=1)])
    assert not (store.root / ".slurm").exists()


def test_a_node_that_does_not_see_the_store_is_named(store, cluster, monkeypatch):
    setup = {**slurm.node_setup(store.root, 1), "store": str(store.root / "elsewhere")}
    monkeypatch.setattr(slurm, "node_setup", lambda *given: setup)
    with pytest.raises(SharpscopeError, match=r"cannot start \(on node .* there is no store at .*elsewhere"):
        go(store, cluster, [task("a", "write", value=1)])


def test_a_refusal_ends_the_sweep_only_while_nothing_runs(store, cluster, monkeypatch):
    def refuse(command, count, logs):
        raise InputError("Slurm refused the jobs (invalid partition); change the options and run it again")

    submit = cluster.submit
    tasks = [task(f"t{i}", steps=200, factor=i) for i in range(2)]

    def act(event):
        monkeypatch.setattr(cluster, "submit", refuse)
        cluster.end("101_0", "CANCELLED")

    summary, _ = go(store, cluster, tasks, once(act))
    assert (summary.done, cluster.arrays) == (2, [2])
    with pytest.raises(InputError, match="invalid partition"):
        go(store, cluster, [task("more", "write", value=1)])
    monkeypatch.setattr(cluster, "submit", submit)


def test_a_slurm_that_does_not_answer_is_waited_for(store, cluster, monkeypatch):
    monkeypatch.setattr(cluster, "states", lambda: None)
    summary, events = go(store, cluster, study()[:4])
    assert summary.done == 4
    assert [event for event in events if event["event"] == "crashed"] == []


COORDINATOR = """
import sys
from pathlib import Path
from sharpscope.sweep import Store, run_tasks
from sweep.executors.fake_slurm import FakeSlurm
from sweep.executors.test_slurm_jobs import executor, task
store = Store(sys.argv[1])
def show(event):
    print(event["event"], event.get("where"), flush=True)
run_tasks(store, [task("t", steps=3000, factor=1)], executor=executor(store, FakeSlurm(Path(sys.argv[2]))),
          on_event=show)
"""


def test_jobs_of_a_coordinator_that_was_killed_save_and_end(store, cluster, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, str(store.root), str(tmp_path / "other")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        text=True,
    )
    where = None
    for line in process.stdout:
        event, place = line.split()
        where = place if event == "start" else where
        if event == "progress":
            break
    worker = psutil.Process(int(where.rsplit("-", 2)[1]))
    process.kill()
    process.communicate()
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()
    (workspace,) = (store.root / "work").iterdir()
    assert int((workspace / "count.txt").read_text()) > 10
    assert len(list((store.root / ".slurm").iterdir())) == 1
    go(store, cluster, [task("u", "write", value=1)])
    assert not (store.root / ".slurm").exists()
