"""Coordinators that share a store: who holds what, who lives, and what passes on when one dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from sharpscope.sweep import Store, Task, activity, run_tasks
from sharpscope.sweep.store import liveness
from sharpscope.sweep.store.leases import Leases, held
from sharpscope.sweep.store.liveness import Heartbeat, Liveness, new_coordinator
from sharpscope.sweep.store.owner import own_tag
from sharpscope.sweep.store.records import read_journal

ELSEWHERE = "elsewhere.0a0a0a-1-1+1"


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.prepare()
    return made


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def coordinators(store):
    """Return a way to make coordinators of this process, each with its heartbeat."""
    with contextlib.ExitStack() as stack:

        def make(clock=time.monotonic):
            name = new_coordinator()
            stack.enter_context(Heartbeat(store.root, name, every=60.0))
            return Leases(store.root, name, Liveness(store.root, silence=10.0, clock=clock))

        yield make


def lease_of(store, result, coordinator):
    path = store.root / "leases" / f"{result}@{coordinator}"
    path.touch()
    return path


def beat(store, count, coordinator=ELSEWHERE, **state):
    path = store.root / "coordinators" / f"{coordinator}.json"
    path.write_text(json.dumps({"beat": count, **state}))
    return path


def test_a_lease_has_one_holder_and_several_are_taken_together_or_not_at_all(store, coordinators):
    one, two = coordinators(), coordinators()
    assert one.take(["r1", "r2"]) is None
    assert one.take(["r2"]) is None, "one's own is no obstacle"
    assert two.take(["r3", "r2"]) == one._coordinator
    assert [result for result, _ in held(store.root)] == ["r1", "r2"], "r3 is not left behind"
    assert two.others(["r1"]) == one._coordinator
    assert two.others(["r3"]) is None
    one.give_up(["r2", "never held"])
    assert two.take(["r3", "r2"]) is None
    assert one.take(["r2"]) == two._coordinator
    two.give_up_all()
    one.give_up_all()
    assert held(store.root) == []


def test_a_coordinator_that_is_over_holds_nothing_though_its_process_lives(store, coordinators):
    with Heartbeat(store.root, "", every=60.0):
        pass
    lease_of(store, "r1", new_coordinator())
    lease_of(store, "r2", own_tag().rpartition("-")[0] + "-1+1")
    one = coordinators()
    assert one.take(["r1", "r2"]) is None
    assert [owner for _, owner in held(store.root)] == [one._coordinator] * 2
    assert [entry["id"] for entry in read_journal(store.root)] == ["r1", "r2"]


def test_another_machine_is_dead_when_its_counter_stands_still_by_our_own_clock(store, coordinators):
    clock = Clock()
    mine = coordinators(clock)
    lease = lease_of(store, "r1", ELSEWHERE)
    beat(store, 1)
    assert mine.take(["r1"]) == ELSEWHERE
    for count in range(2, 5):
        clock.now += 9.0
        beat(store, count)
        assert mine.take(["r1"]) == ELSEWHERE
    clock.now += 9.9
    assert mine.take(["r1"]) == ELSEWHERE
    clock.now += 0.2
    assert mine.take(["r1"]) is None
    assert not lease.exists()
    assert held(store.root) == [("r1", mine._coordinator)]


@pytest.mark.parametrize("jump", [-10 * 365 * 86400, 10 * 365 * 86400])
def test_clocks_that_jump_change_nothing(store, coordinators, monkeypatch, jump):
    clock = Clock()
    mine = coordinators(clock)
    lease = lease_of(store, "r1", ELSEWHERE)
    file = beat(store, 1)
    assert mine.take(["r1"]) == ELSEWHERE
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment + jump)
    for path in (lease, file):
        os.utime(path, (moment + jump, moment + jump))
    clock.now += 9.0
    assert mine.take(["r1"]) == ELSEWHERE, "a time of another clock says nothing"
    os.utime(file, (moment - jump, moment - jump))
    clock.now += 1.5
    assert mine.take(["r1"]) is None, "nor does a time that changes make a heartbeat"


def test_one_that_never_gave_a_sign_of_life_is_waited_for_too(store, coordinators):
    clock = Clock()
    mine = coordinators(clock)
    lease_of(store, "r1", ELSEWHERE)
    assert mine.take(["r1"]) == ELSEWHERE
    clock.now += 10.5
    assert mine.take(["r1"]) is None


RACE = """
import os, sys, time
from sharpscope.sweep.store.liveness import Heartbeat, Liveness, new_coordinator
from sharpscope.sweep.store.leases import Leases
from pathlib import Path
root = Path(sys.argv[1])
name = new_coordinator()
taken = 0
with Heartbeat(root, name):
    leases = Leases(root, name, Liveness(root))
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        if leases.take(["r1", "r2"]) is None:
            inside = os.open(root / "inside", os.O_CREAT | os.O_EXCL)
            os.close(inside)
            os.unlink(root / "inside")
            taken += 1
            leases.give_up_all()
print(taken)
"""


def test_processes_that_race_for_a_lease_never_hold_it_together(store):
    path = os.pathsep.join(p for p in sys.path if p)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(store.root)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outcomes = [racer.communicate(timeout=60) for racer in racers]
    assert [errors for _, errors in outcomes] == ["", "", ""]
    assert sum(int(output) for output, _ in outcomes) > 10
    assert held(store.root) == []


def test_a_heart_that_cannot_be_heard_says_so_after_a_while(store, monkeypatch):
    name = new_coordinator()
    with Heartbeat(store.root, name, every=60.0) as beating:
        assert beating.failure() is None

        def refuse(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "replace", refuse)
        beating.beat()
        assert beating.failure() is None, "once is no death"
        monkeypatch.setattr(liveness, "SILENCE", 0.0)
        assert "No space left on device; free some space" in beating.failure()
        monkeypatch.undo()
        beating.beat()
        assert beating.failure() is None
    assert list((store.root / "coordinators").iterdir()) == []


# A coordinator that takes itself to be of another machine, whose death nobody can see but by its silence.
AWAY = """
import sys
from sharpscope.sweep import Store, Task, run_tasks
from sharpscope.sweep.store import owner
owner._host = lambda: "elsewhere.0a0a0a"
tasks = [Task("slow", "runs", "sweep.fake_tasks:count", {"steps": 150, "factor": 3})]
run_tasks(Store(sys.argv[1]), tasks, workers=1, on_event=lambda e: print(e["event"], e.get("step", ""), flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_what_a_coordinator_of_another_machine_leaves_is_gone_on_with(tmp_path):
    path = os.pathsep.join(p for p in sys.path if p)
    away = subprocess.Popen(
        [sys.executable, "-c", AWAY, str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("progress 1") for line in away.stdout), "it ended before"
    away.kill()
    away.communicate()
    store = Store(tmp_path / "store")
    lease = held(store.root)
    assert [result for result, _ in lease] == ["slow"]
    assert lease[0][1].startswith("elsewhere.0a0a0a-")
    events = []
    slow = Task("slow", "runs", "sweep.fake_tasks:count", {"steps": 150, "factor": 3})
    quick = Task("quick", "runs", "sweep.fake_tasks:write", {"value": 1})
    summary = run_tasks(store, [slow, quick], workers=1, on_event=events.append, silence=1.5)
    assert (summary.done, summary.elsewhere) == (2, 0)
    names = [(e["event"], e.get("task")) for e in events]
    assert names.index(("done", "quick")) < names.index(("start", "slow")), "it did not wait idly"
    assert next(e["resumed"] for e in events if e["event"] == "start" and e["task"] == "slow")
    assert {"event": "peers", "coordinators": 1, "workers": 1} in events
    assert [p.name for name in ("tmp", "work", "leases") for p in (store.root / name).iterdir()] == []


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_what_a_coordinator_of_this_machine_leaves_is_gone_on_with_at_once(tmp_path):
    path = os.pathsep.join(p for p in sys.path if p)
    here = AWAY.replace('owner._host = lambda: "elsewhere.0a0a0a"', "")
    other = subprocess.Popen(
        [sys.executable, "-c", here, str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("progress 1") for line in other.stdout), "it ended before"
    events = []

    def kill(event):
        events.append(event)
        if event["event"] == "peers" and event["coordinators"]:
            other.kill()
            other.communicate()

    store = Store(tmp_path / "store")
    slow = Task("slow", "runs", "sweep.fake_tasks:count", {"steps": 150, "factor": 3})
    summary = run_tasks(store, [slow], workers=1, on_event=kill, silence=10_000.0)
    assert (summary.done, summary.elsewhere) == (1, 0)
    assert next(e["resumed"] for e in events if e["event"] == "start")
    assert [e["event"] for e in read_journal(store.root)] == ["reclaimed", "published"]
    assert [p for name in ("tmp", "work", "leases") for p in (store.root / name).iterdir()] == []


FROZEN = (
    AWAY.replace("run_tasks(Store", "summary = run_tasks(Store")
    + """
print("summary", summary.done, summary.elsewhere, summary.failed, summary.interrupted, flush=True)
"""
)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("thawed_amid", [False, True], ids=["after the work is done", "while it is done"])
def test_a_coordinator_frozen_past_its_lease_finds_its_task_done_elsewhere(tmp_path, thawed_amid):
    # its workers too take themselves to be of the other machine
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "from sharpscope.sweep.store import owner\nowner._host = lambda: 'elsewhere.0a0a0a'\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), *(p for p in sys.path if p)])
    away = subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("progress 5") for line in away.stdout), "it ended before"
    frozen = [psutil.Process(away.pid), *psutil.Process(away.pid).children(recursive=True)]
    for process in frozen:
        process.suspend()
    thawed = []

    def thaw(event=None):
        amid = event is not None and event["event"] == "progress" and event.get("step", 0) > 20
        if not thawed and (event is None or (thawed_amid and amid)):
            for process in frozen:
                process.resume()
            thawed.append(True)

    store = Store(tmp_path / "store")
    slow = Task("slow", "runs", "sweep.fake_tasks:count", {"steps": 150, "factor": 3})
    summary = run_tasks(store, [slow], workers=1, on_event=thaw, silence=1.5)
    assert bool(thawed) == thawed_amid
    thaw()
    said = away.communicate(timeout=60)[0].splitlines()
    assert away.returncode == 0
    assert summary.done == 1
    assert "overtaken " in said
    assert said[-1] == "summary 1 1 0 False", "done elsewhere, and no failure"
    assert summary.elsewhere == 0
    assert (store.path("slow") / "value.txt").read_text() == "450"
    assert store.failures() == []
    assert [e["event"] for e in read_journal(store.root)].count("published") == 1
    assert [p.name for name in ("tmp", "work", "leases") for p in (store.root / name).iterdir()] == []


STRAY = {
    "coordinators": [
        "notes.txt",
        "x.json",
        "a-b-c+1.json",
        "h.0a0a0a-99999999999999999999-1+1.json",
        "@.json",
    ],
    "leases": ["slow", "@", "slow@", "slow@me", "slow@host-1-1+1", "slow@h.0a0a0a-1-1+x"],
    "tmp": ["@", "x@y", "mine"],
    "work": ["@", "slow@y", "slow"],
    "failures": ["x.txt", "x.json"],
}


def test_stray_files_and_odd_heartbeats_disturb_nobody(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    for folder, names in STRAY.items():
        for name in names:
            (tmp_path / folder / name).write_text("stray")
    (tmp_path / "coordinators" / "folder.json").mkdir()
    (tmp_path / "failures" / "folder.json").mkdir()
    odd = [
        "[]",
        "{",
        '{"beat": "x"}',
        '{"workers": -3}',
        '{"running": 7}',
        "1e999",
        '{"eta": [1]}',
        "[" * 5000,
    ]
    odd += ['{"running": [{"task": 1}]}', '{"running": [{"task": "t", "label": "l", "seconds": "s"}]}', "\0"]
    for number, content in enumerate(odd):
        (tmp_path / "coordinators" / f"h.0a0a0a-{number + 1}-1+1.json").write_text(content)
    shown = activity(store.root)
    assert len(shown) == len(odd)
    assert all((one.host, one.workers, one.running, one.eta) == ("h", 0, (), None) for one in shown)
    assert held(store.root) == []
    slow = Task("slow", "runs", "sweep.fake_tasks:write", {"value": 1})
    assert run_tasks(store, [slow], workers=1, silence=0.0).done == 1
    assert [one.id for one in store.failures()] == ["folder", "x"]


PAIR = """
import json, sys
from sharpscope.sweep import Store, Task, run_tasks
store, log = sys.argv[1:]
tasks = [Task("bad", "runs", "sweep.fake_tasks:note_and_fail", {"file": log, "coordinators": 2}),
         Task("after", "runs", "sweep.fake_tasks:write", {"value": 1}, ("bad",))]
summary = run_tasks(Store(store), tasks, workers=1)
print(json.dumps([summary.done, summary.failed, summary.blocked, [f.reason for f in summary.failures]]))
"""


def test_what_fails_for_one_coordinator_has_failed_for_the_other(tmp_path):
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", PAIR, str(tmp_path / "store"), str(tmp_path / "log")]

    def both():
        pair = [
            subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        return [json.loads(one.communicate(timeout=60)[0]) for one in pair]

    # Twice, so that the second time there is an old record to tell the new one from.
    for attempts in (1, 2):
        assert both() == [[0, 1, 1, ["ValueError: no"]]] * 2
        assert (tmp_path / "log").read_text() == "x" * attempts
    assert held(tmp_path / "store") == []
