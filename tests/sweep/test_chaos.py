"""Processes killed with -9 at random moments, and what the store then holds."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sharpscope.sweep import Store, Task, run_tasks
from sharpscope.sweep.store.records import read_journal
from sweep.chaos import left_behind, twice_published, unleash

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

RUNS, MEASURES = 14, 7

# Run as a process of its own: one line per event on standard output, then the summary.
COORDINATOR = """
import json, sys
from sharpscope.sweep import Store, run_tasks
from sweep.test_chaos import study
def show(event):
    if event["event"] != "progress":
        print(json.dumps(event), flush=True)
summary = run_tasks(Store(sys.argv[1]), study(), workers=2, on_event=show)
print(json.dumps({"event": "summary", "done": summary.done, "elsewhere": summary.elsewhere,
                  "skipped": summary.skipped, "failed": summary.failed, "interrupted": summary.interrupted}))
"""


def study():
    """Return runs that take a while and can resume, and quick measures that need two of them each."""
    runs = [
        Task(f"run{i}", "runs", "sweep.fake_tasks:count", {"steps": 8 + i, "factor": i + 1})
        for i in range(RUNS)
    ]
    measures = [
        Task(
            f"measure{i}",
            "measures",
            "sweep.fake_tasks:write",
            {"value": i, "seconds": 0.02},
            (f"run{i}", f"run{RUNS - 1 - i}"),
        )
        for i in range(MEASURES)
    ]
    return [*runs, *measures]


def many(step_seconds=0.02):
    """Return 150 tasks: runs that can resume, and measures of half of them."""
    runs = [
        Task(
            f"r{i}",
            "runs",
            "sweep.fake_tasks:count",
            {"steps": 10 + i % 7, "factor": i, "step_seconds": step_seconds},
        )
        for i in range(100)
    ]
    measures = [
        Task(f"m{i}", "measures", "sweep.fake_tasks:write", {"value": i}, (f"r{i}",)) for i in range(50)
    ]
    return [*runs, *measures]


def coordinator(path):
    search = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, str(path)],
        env={**os.environ, "PYTHONPATH": search},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def published(store):
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for kind in store.kinds()
        for path in sorted((store.root / kind).rglob("*"))
        if path.is_file()
    }


def dead(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def wait_for_death(processes, seconds=1.5):
    patience = time.monotonic() + seconds
    while not all(map(dead, processes)) and time.monotonic() < patience:
        time.sleep(0.02)
    assert all(map(dead, processes)), "orphans"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("undisturbed") / "store")
    assert run_tasks(store, study(), workers=1).done == RUNS + MEASURES
    tree = published(store)
    assert len(tree) == 3 * RUNS + 2 * MEASURES, "with a manifest each"
    return tree


def test_killing_anything_at_any_moment_leaves_a_store_that_can_be_completed(tmp_path, undisturbed):
    store = Store(tmp_path / "store")
    dice = random.Random(20)
    cut_off = 0
    for stroke in range(9):
        process = coordinator(store.root)
        here = psutil.Process(process.pid)
        # By what has happened rather than by the clock, so that a slow machine is disturbed as a fast one is.
        awaited = dice.choice([0, 0, 1, 2, 3])
        while awaited:
            awaited -= json.loads(process.stdout.readline())["event"] == "done"
        time.sleep(dice.uniform(0.0, 0.15))
        workers = here.children(recursive=True)
        if stroke % 3 != 0:
            for worker in dice.sample(workers, min(len(workers), 1 + stroke % 2)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.send_signal(signal.SIGKILL)
            time.sleep(dice.uniform(0.0, 0.2))
            workers = list({*workers, *here.children(recursive=True)})
        process.kill()
        process.communicate()
        wait_for_death(workers)
        done = sum(len(store.ids(kind)) for kind in store.kinds())
        cut_off += done < RUNS + MEASURES
        assert set(published(store).items()) <= set(undisturbed.items()), "something was published half"
    assert cut_off >= 7, "the kills came too late to try anything"
    summary = run_tasks(store, study(), workers=2)
    assert summary.failed == 0
    assert summary.done + summary.skipped == RUNS + MEASURES
    assert published(store) == undisturbed
    assert left_behind(store) == []


# Three things end an orphan, and each must do so alone: these lines take the others away from a worker.
NO_KERNEL = "w.ctypes.CDLL = lambda name: object(); "
NO_WATCH = "w.os.getppid = lambda: setup['parent']; "
NO_END_OF_INPUT = "listen = w._Worker.listen; w._Worker.listen = lambda s, o: listen(s, first_order(o)); "


@pytest.mark.parametrize(
    "without",
    ["", NO_WATCH + NO_END_OF_INPUT, NO_KERNEL + NO_END_OF_INPUT, NO_KERNEL + NO_WATCH],
    ids=["all", "kernel", "liveness", "end-of-input"],
)
def test_workers_die_with_a_coordinator_even_in_the_middle_of_a_task(tmp_path, without):
    if without == NO_WATCH + NO_END_OF_INPUT and not sys.platform.startswith("linux"):
        pytest.skip("Linux alone ends the children of the dead")
    store = Store(tmp_path / "store")
    lines = COORDINATOR.splitlines()
    lines[-3] = lines[-3].replace(
        "study()", "[Task('s', 'runs', 'sweep.fake_tasks:stubborn', {'seconds': 60})]"
    )
    crippled = (
        "import sharpscope.sweep.executors.local.worker as w; "
        f"from sweep.fake_tasks import first_order; {without}main(setup)"
    )
    lines.insert(
        1, "from sharpscope.sweep import Task; from sharpscope.sweep.executors.local import executor as local"
    )
    lines.insert(2, f"local._COMMAND = local._COMMAND.replace('main(setup)', {crippled!r})")
    script = "\n".join(lines)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(store.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        text=True,
    )
    while json.loads(process.stdout.readline())["event"] != "start":
        pass
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 1
    process.kill()
    process.communicate()
    wait_for_death(workers)
    assert len(list((store.root / "tmp").iterdir())) == 1
    store.prepare()
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("wait", [0.0, "start", 0.5])
def test_ctrl_c_in_a_terminal_reaches_everyone_and_stops_cleanly(tmp_path, undisturbed, wait):
    store = Store(tmp_path / "store")
    process = coordinator(store.root)
    while json.loads(process.stdout.readline())["event"] != ("start" if wait == "start" else "plan"):
        pass
    if wait != "start":
        time.sleep(wait)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    summary = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, errors
    assert errors == ""
    assert summary["event"] == "summary"
    assert summary["interrupted"]
    assert summary["failed"] == 0
    assert "crashed" not in output
    wait_for_death(workers)
    assert list((store.root / "tmp").iterdir()) == []
    run_tasks(store, study(), workers=2)
    assert published(store) == undisturbed
    assert left_behind(store) == []


def test_two_coordinators_on_one_store_share_the_tasks_out(tmp_path, undisturbed):
    processes = [coordinator(tmp_path / "store") for _ in range(2)]
    outcomes = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    started, here = [], 0
    for output, errors in outcomes:
        events = [json.loads(line) for line in output.splitlines()]
        summary = events[-1]
        assert errors == ""
        assert summary["failed"] == 0
        assert summary["done"] + summary["skipped"] == RUNS + MEASURES
        started += [event["task"] for event in events if event["event"] == "start"]
        here += summary["done"] - summary["elsewhere"]
    assert sorted(started) == sorted(task.id for task in study()), "each was begun once"
    assert here == RUNS + MEASURES
    store = Store(tmp_path / "store", create=False)
    assert published(store) == undisturbed
    assert left_behind(store) == []


def test_chaos_among_two_coordinators_ends_in_the_tables_of_an_undisturbed_run(tmp_path):
    calm = Store(tmp_path / "calm")
    run_tasks(calm, many(0), workers=2)
    store = Store(tmp_path / "store")
    search = os.pathsep.join(p for p in sys.path if p)
    script = "import sys; from sharpscope.sweep import *; from sweep.test_chaos import many; "
    script += "run_tasks(Store(sys.argv[1]), many(), workers=2)"

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", script, str(store.root)],
            env={**os.environ, "PYTHONPATH": search},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # By the deaths rather than for a time, so that a slow machine is disturbed as much as a fast one is.
    dead_enough = lambda toll: toll.coordinators >= 3 and toll.workers >= 5  # noqa: E731
    toll = unleash(start, 120, (0.4, 1.2), random.Random(3), at_coordinators=0.4, enough=dead_enough)
    assert toll.left == [], "orphans"
    assert dead_enough(toll)
    assert set(published(store).items()) <= set(published(calm).items()), "something was published half"
    summary = run_tasks(store, many(), workers=2)
    assert (summary.failed, summary.done + summary.skipped) == (0, 150)
    assert published(store) == published(calm)
    assert left_behind(store) == []
    assert twice_published(store) == []
    noted = {entry["id"] for entry in read_journal(store.root) if entry["event"] == "published"}
    assert len(noted) >= 150 - toll.workers - 2 * toll.coordinators, "each death may lose one line"
