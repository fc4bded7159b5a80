from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sharpscope.errors import InputError, SharpscopeError, StoreError
from sharpscope.sweep import LocalExecutor, Store, Task, run_tasks
from sharpscope.sweep.executors.local import executor as local
from sharpscope.sweep.store.sharing import Peers, Sharing
from sweep.fake_tasks import workers_left

FAKE = "sweep.fake_tasks"


def task(task_id, function="write", needs=(), kind="runs", **payload):
    return Task(task_id, kind, f"{FAKE}:{function}", payload, tuple(needs), f"label of {task_id}")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def published(store):
    """Return every published file's bytes by its path."""
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for kind in store.kinds()
        for path in sorted((store.root / kind).rglob("*"))
        if path.is_file()
    }


def garbage(store):
    return [path for name in ("tmp", "work") for path in (store.root / name).iterdir()]


def counts(summary):
    return summary.done, summary.skipped, summary.failed, summary.blocked, summary.interrupted


def chained():
    """Return two runs and three measures, one of both runs, the dependents listed first."""
    return [
        task("m-both", needs=["b", "a"], kind="measures", value=3),
        task("m-a", needs=["a"], kind="measures", value=1),
        task("a", value="α", seconds=0.05),
        task("m-b", needs=["b"], kind="measures", value=2),
        task("b", value="β"),
    ]


def test_one_and_two_workers_publish_the_same_and_a_second_call_does_nothing(tmp_path, monkeypatch):
    trees = []
    for workers in (1, 2):
        store = Store(tmp_path / str(workers))
        events = []
        summary = run_tasks(store, [*chained(), chained()[2]], workers=workers, on_event=events.append)
        assert counts(summary) == (5, 0, 0, 0, False)
        trees.append(published(store))
        assert garbage(store) == []
        assert events[0] == {"event": "plan", "total": {"measures": 3, "runs": 2}, "workers": workers}
        assert sum(e["event"] == "done" for e in events) == 5
        order = [e["task"] for e in events if e["event"] in ("start", "done")]
        assert order.index("m-both") > max(len(order) - 1 - order[::-1].index(n) for n in ("a", "b"))
        started = next(e for e in events if e["event"] == "start")
        assert (started["label"], started["kind"]) == (f"label of {started['task']}", "runs")
        assert max(e["worker"] for e in events if e["event"] == "start") == workers, "processes are reused"
    assert trees[0] == trees[1]
    assert trees[0]["measures/m-both/value.txt"].decode() == "3 ['α []\\n', 'β []\\n']\n"
    events = []
    assert counts(run_tasks(store, chained(), on_event=events.append)) == (0, 5, 0, 0, False)
    assert {e["event"] for e in events} == {"plan", "skipped"}
    monkeypatch.setattr(Store, "prepare", lambda self: pytest.fail("a finished store need not be writable"))
    assert run_tasks(store, chained()).skipped == 5
    monkeypatch.undo()
    assert not workers_left()


def test_threads_are_fixed_before_anything_is_imported(store):
    events = []
    tasks = [task("a", "environment"), task("b", "environment")]
    run_tasks(store, tasks, workers=2, on_event=events.append)
    text = (store.path("a") / "environment.txt").read_text()
    assert text.splitlines()[:4] == [
        "OMP_NUM_THREADS=1",
        "MKL_NUM_THREADS=1",
        "PYTHONHASHSEED=0",
        "threads=1",
    ]
    assert text.endswith("torch=False")
    assert text == (store.path("b") / "environment.txt").read_text()
    assert (
        next(e["text"] for e in events if e["event"] == "log")
        == "printed for a person, not for the coordinator"
    )
    assert local.thread_environment(3)["OPENBLAS_NUM_THREADS"] == "3"


def test_a_failing_task_fails_alone_and_blocks_what_needs_it(store):
    events = []
    tasks = [
        task("bad", "wrong"),
        task("ours", "wrong", ours=True),
        task("gone", "no_such_function"),
        task("idle", "nothing_asked"),
        task("after", needs=["bad"], value=1),
        task("after-after", needs=["after", "ours"], value=1),
        task("good", value=1),
    ]
    summary = run_tasks(store, tasks, workers=1, on_event=events.append)
    assert counts(summary) == (1, 0, 4, 2, False)
    reasons = {failure.id: failure.reason for failure in summary.failures}
    assert reasons["bad"] == "ValueError: first line"
    assert reasons["ours"] == "lr is -1 and must be positive; choose another"
    assert "no_such_function" in reasons["gone"]
    assert "nobody asked it to" in reasons["idle"]
    records = {failure.id: failure for failure in Store(store.root).failures()}
    assert records["bad"].traceback.splitlines()[-2:] == ["ValueError: first line", "second line"]
    assert "fake_tasks.py" in records["bad"].traceback
    assert records["bad"].label == "label of bad"
    blocked = [(e["task"], e["because"]) for e in events if e["event"] == "blocked"]
    assert blocked == [("after", "bad"), ("after-after", "bad")]
    assert store.ids("runs") == ["good"]
    assert list((store.root / "tmp").iterdir()) == []


def test_a_failed_task_is_tried_again_by_the_next_call(store, tmp_path):
    flag = tmp_path / "flag"
    tasks = [task("a", "fail_until", file=str(flag)), task("b", needs=["a"], value=1)]
    # The workspace of a failure is gone on from once, and thrown away when that fails too.
    for expected in ("try x", "try xx", "try x"):
        assert run_tasks(store, tasks, workers=1).failures[0].reason == f"RuntimeError: {expected}"
    flag.touch()
    assert counts(run_tasks(store, tasks, workers=1)) == (2, 0, 0, 0, False)
    assert store.failures() == []
    assert garbage(store) == []


def test_a_crashed_worker_is_replaced_and_its_task_tried_again(store, tmp_path):
    events = []
    tasks = [
        task("hard", "die", file=str(tmp_path / "hard"), times=2),
        task("never", "die", file=str(tmp_path / "never"), times=99),
        task("quits", "die", file=str(tmp_path / "quits"), times=99, status=0),
        task("good", value=1),
    ]
    summary = run_tasks(store, tasks, workers=2, on_event=events.append)
    assert counts(summary) == (2, 0, 2, 0, False)
    crashes = [(e["task"], e["attempt"]) for e in events if e["event"] == "crashed"]
    assert sorted(crashes) == sorted(
        [("hard", 1), ("hard", 2), *((n, i) for n in ("never", "quits") for i in (1, 2, 3))]
    )
    failures = {failure.id: failure for failure in store.failures()}
    assert failures["never"].reason == (
        "tried 3 times and its worker process was ended by signal SIGKILL, possibly out of memory"
    )
    assert failures["never"].crashes == 3
    assert "log tail" in failures["never"].log
    assert failures["quits"].reason.endswith("ended in the middle of it with exit status 0")
    assert (tmp_path / "never").read_text() == "xxx"
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("rust", [False, True])
def test_a_full_disk_stops_the_sweep_in_one_sentence(store, rust):
    tasks = [
        task("slow", "count", steps=10_000, factor=1),
        task("full", "fill_disk", rust=rust),
        task("next", value=1),
    ]
    with pytest.raises(StoreError, match="No space left on device; free some space") as error:
        run_tasks(store, tasks, workers=2)
    assert "\n" not in str(error.value)
    assert published(store) == {}
    assert list((store.root / "tmp").iterdir()) == []
    assert not workers_left()


def test_plans_that_cannot_work_are_refused_before_anything_runs(store):
    with pytest.raises(StoreError, match="task 'b' needs 'a', which is neither in the store") as error:
        run_tasks(store, [task("b", needs=["a"], value=1), task("c", value=1)])
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="need each other in a circle, such as 'a'"):
        run_tasks(store, [task("c", value=1), task("a", needs=["b"]), task("b", needs=["a", "c"])])
    with pytest.raises(InputError, match="two different tasks have the id 'a'"):
        run_tasks(store, [task("a", value=1), task("a", value=2)])
    with pytest.raises(InputError, match="workers is 0"):
        run_tasks(store, [task("a", value=1)], workers=0)
    with pytest.raises(InputError, match="threads is -1"):
        run_tasks(store, [task("a", value=1)], threads=-1)
    assert published(store) == {}


def test_workers_that_cannot_start_are_reported(store, monkeypatch):
    monkeypatch.setattr(local, "_COMMAND", "raise SystemExit('no such thing as torch')")
    with pytest.raises(SharpscopeError, match=r"cannot start \(no such thing as torch\)"):
        run_tasks(store, [task("a", value=1)], workers=1)


def test_an_error_of_the_watcher_ends_the_workers(store):
    def watch(event):
        if event["event"] == "start":
            raise RuntimeError("cannot draw")

    with pytest.raises(RuntimeError, match="cannot draw"):
        run_tasks(store, [task("a", "stubborn", seconds=60), task("b", value=1)], workers=2, on_event=watch)
    assert not workers_left()
    assert list((store.root / "tmp").iterdir()) == []


def interrupting(store, tasks, when, gaps, workers=2):
    """Run tasks here and press Ctrl-C as soon as `when` holds of an event, and again after each gap."""
    events = []

    def press():
        for gap in gaps:
            time.sleep(gap)
            os.kill(os.getpid(), signal.SIGINT)

    def watch(event):
        events.append(event)
        if when(event) and not any(when(e) for e in events[:-1]):
            threading.Thread(target=press).start()

    before = signal.getsignal(signal.SIGINT)
    summary = run_tasks(store, tasks, workers=workers, on_event=watch)
    assert signal.getsignal(signal.SIGINT) is before
    assert not workers_left()
    return summary, events


def test_ctrl_c_once_saves_and_the_next_call_goes_on_from_there(store):
    tasks = [task(f"t{i}", "count", steps=100, factor=i) for i in range(4)]
    summary, events = interrupting(store, tasks, lambda e: e.get("step", 0) >= 10, [0.0])
    assert summary.interrupted
    assert summary.done + summary.failed == 0
    assert [e["event"] for e in events if e["event"] in ("stopping", "interrupted")] == [
        "stopping",
        "interrupted",
        "interrupted",
    ]
    assert published(store) == {}
    assert list((store.root / "tmp").iterdir()) == []
    assert len(list((store.root / "work").iterdir())) == 2
    begun = len(
        list((store.root / "work").glob("*/count.txt"))
    )  # on a busy machine one may not have counted yet
    events = []
    assert counts(run_tasks(store, tasks, workers=2, on_event=events.append)) == (4, 0, 0, 0, False)
    resumed = {e["task"]: e["resumed"] for e in events if e["event"] == "start"}
    assert 1 <= begun == resumed["t0"] + resumed["t1"]
    assert not resumed["t2"]
    assert not resumed["t3"]
    first = [min(e["step"] for e in events if e.get("step") and e["task"] == name) for name in ("t0", "t1")]
    assert max(first) > 5
    assert garbage(store) == []


def test_ctrl_c_twice_kills_and_publishes_nothing_half(store):
    begin = time.monotonic()
    tasks = [task("a", "stubborn", seconds=60), task("b", "stubborn", seconds=60)]
    summary, _ = interrupting(store, tasks, lambda e: e["event"] == "start", [0.0, 0.4])
    assert summary.interrupted
    assert time.monotonic() - begin < 20
    assert published(store) == {}
    assert list((store.root / "tmp").iterdir()) == []


SCRIPT = """
import sys
from sharpscope.sweep import Store, Task, run_tasks
tasks = [Task(f"t{i}", "runs", "mine:save", {"i": i}) for i in range(2)]
print(run_tasks(Store("store"), tasks, workers=2).done)
"""


@pytest.mark.parametrize("way", ["-c", "stdin", "script"])
def test_any_main_module_will_do_and_modules_of_the_current_folder_are_found(tmp_path, way):
    (tmp_path / "mine.py").write_text(
        "def save(payload, context):\n    (context.output / 'i.txt').write_text(str(payload['i']))\n"
    )
    (tmp_path / "json.py").write_text("raise RuntimeError('not the library of this name')\n")
    (tmp_path / "main.py").write_text(SCRIPT)
    command = {"-c": ["-c", SCRIPT], "stdin": ["-"], "script": ["main.py"]}[way]
    # As a console script does, the library's folders come first and the current one last.
    early = "import sys; sys.path.append(sys.path.pop(0))\n" if way != "script" else ""
    if way == "script":
        (tmp_path / "json.py").unlink()
    command = [part.replace(SCRIPT, early + SCRIPT) for part in command]
    outcome = subprocess.run(
        [sys.executable, *command],
        input=early + SCRIPT if way == "stdin" else "",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (outcome.stdout, outcome.returncode) == ("2\n", 0), outcome.stderr
    assert Store(tmp_path / "store", create=False).ids("runs") == ["t0", "t1"]


def test_the_number_of_workers_defaults_to_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "usable_cores", lambda: 6)
    assert LocalExecutor(tmp_path).workers == 6
    assert LocalExecutor(tmp_path, threads=4).workers == 1
    assert LocalExecutor(tmp_path, threads=8).workers == 1
    assert LocalExecutor(tmp_path, workers=3, threads=8).workers == 3


class Elsewhere:
    """An executor in the tests' own process that loses contact at times; another place to run needs no more."""

    workers = 1

    def __init__(self, store):
        self._store = store
        self._heard = []
        self.submitted = []
        self.closed = False

    def room(self):
        return 0 if self._heard else 1

    def submit(self, given):
        self.submitted.append(given.id)
        first = self.submitted.count(given.id) == 1
        if given.id == "late" or not first:
            self._store.publish(given.id, self._store.new_output(given.id), given.kind)
        ended = {"event": "lost", "reason": "its node went away", "log": ""} if first else {"event": "done"}
        self._heard = [{"event": "start", "task": given.id, "resumed": False}, {**ended, "task": given.id}]

    def wait(self, timeout):
        heard, self._heard = self._heard, []
        return heard

    def ask_to_stop(self):
        raise AssertionError("nobody asked")

    def kill(self):
        raise AssertionError("nobody asked")

    def close(self):
        self.closed = True


def test_a_task_lost_after_publication_is_done_and_one_lost_before_runs_again(store):
    elsewhere = Elsewhere(store)
    summary = run_tasks(
        store, [task("late"), task("early"), task("next", needs=["late"])], executor=elsewhere
    )
    assert counts(summary) == (3, 0, 0, 0, False)
    assert elsewhere.submitted == ["late", "early", "early", "next", "next"]
    assert elsewhere.closed


class Mistaken(Elsewhere):
    """An executor whose task fails when it has been published, by another coordinator say."""

    def submit(self, given):
        self._store.publish(given.id, self._store.new_output(given.id), given.kind)
        self._heard = [{"event": "failed", "task": given.id, "reason": "too late", "traceback": ""}]


def test_a_task_that_failed_though_its_result_is_there_is_done(store):
    summary = run_tasks(store, [task("a"), task("b", needs=["a"])], executor=Mistaken(store))
    assert counts(summary) == (2, 0, 0, 0, False)
    assert store.failures() == []


def test_a_store_that_can_no_longer_be_looked_into_stops_the_sweep(store, monkeypatch):
    looks = []

    def refuse(self):
        looks.append(self)
        if len(looks) > 1:
            raise StoreError("cannot read the store; check the disk")
        return Peers()

    monkeypatch.setattr(Sharing, "peers", refuse)
    with pytest.raises(StoreError, match="cannot read the store"):
        run_tasks(store, [task("a", "count", steps=10_000, factor=1)], workers=1)
    assert len(looks) == 2
    assert not workers_left()
    assert [path.name.partition("@")[0] for path in (store.root / "work").iterdir()] == ["a"], "it was saved"
