"""Tasks that produce several results at once."""

from __future__ import annotations

import pytest

from sharpscope.errors import InputError, StoreError
from sharpscope.sweep import Store, SweepProgress, Task, run_tasks


def batch(task_id, *products, needs=(), **payload):
    return Task(task_id, "runs", "sweep.fake_tasks:batch", {"value": 1, **payload}, needs, task_id, products)


def single(task_id, *needs):
    return Task(task_id, "measures", "sweep.fake_tasks:write", {"value": 2}, needs)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_each_product_is_published_under_its_own_id_and_only_what_is_missing_is_made(store, tmp_path):
    seen = tmp_path / "seen"
    tasks = [single("m2", "r2"), batch("b1", "r1", "r2", file=str(seen)), batch("b2", "r3", needs=("r1",))]
    events = []
    summary = run_tasks(store, tasks, workers=2, on_event=events.append)
    assert (summary.done, summary.skipped, summary.failed) == (4, 0, 0)
    assert store.ids("runs") == ["r1", "r2", "r3"]
    assert (store.path("r2") / "value.txt").read_text() == "r2 1\n"
    assert (store.path("m2") / "value.txt").read_text() == "2 ['r2 1\\n']\n"
    assert list(store.root.glob("tmp/*")) == list(store.root.glob("work/*")) == []
    assert events[0]["total"] == {"measures": 1, "runs": 3}
    assert {e["task"]: e["results"] for e in events if e["event"] == "done"} == {"b1": 2, "b2": 1, "m2": 1}

    events.clear()
    wider = batch("b1-wider", "r1", "r4", "r2", "r5", file=str(seen))
    summary = run_tasks(store, [wider, single("m5", "r5")], on_event=events.append)
    assert (summary.done, summary.skipped) == (3, 2)
    assert seen.read_text().splitlines() == ["r1 r2", "r4 r5"]


def test_a_batch_that_is_all_there_is_skipped_whoever_made_it(store):
    run_tasks(store, [batch("a", "r1"), batch("b", "r2", "r3")], workers=1)
    summary = run_tasks(store, [batch("c", "r1", "r3", "r2")])
    assert (summary.done, summary.skipped) == (0, 3)


def test_a_failing_batch_fails_each_of_its_results_and_blocks_what_needs_one(store):
    tasks = [
        batch("b", "r1", "r2", forget="r2"),
        single("m1", "r1"),
        single("m2", "r2"),
        single("mm", "r1", "r2"),
    ]
    summary = run_tasks(store, tasks, workers=1)
    assert (summary.done, summary.failed, summary.blocked) == (0, 2, 3)
    assert [f.id for f in store.failures()] == ["r1", "r2"]
    assert "returned without a result 'r2'" in store.failures()[0].reason
    assert store.published() == {}
    beside = run_tasks(store, [batch("b", "r1", "r2", beside="r3")], workers=1)
    assert "wrote 'r3' beside its results" in beside.failures[0].reason
    assert run_tasks(store, [batch("b", "r1", "r2"), *tasks[1:]], workers=1).done == 5
    assert store.failures() == []


def test_a_blocked_task_stays_blocked_when_its_other_need_comes(store):
    tasks = [batch("bad", "r1", forget="r1"), batch("good", "r2"), single("m", "r1", "r2")]
    summary = run_tasks(store, tasks, workers=1)
    assert (summary.done, summary.failed, summary.blocked) == (1, 1, 1)


def test_products_are_checked(store):
    with pytest.raises(InputError, match="produces a result twice"):
        batch("b", "r1", "r1")
    with pytest.raises(InputError, match="a task's result names a folder"):
        batch("b", "r/1")
    with pytest.raises(InputError, match="tasks 'b' and 'r1' both produce 'r1'"):
        run_tasks(store, [batch("b", "r1", "r2"), single("r1")])
    with pytest.raises(InputError, match="circle"):
        run_tasks(store, [batch("b", "r1", "r2", needs=("m",)), single("m", "r2")])
    with pytest.raises(StoreError, match="needs 'b', which is neither in the store"):
        run_tasks(store, [batch("b", "r1", "r2"), single("m", "b")])


def test_the_workspace_of_a_batch_goes_when_all_it_was_for_is_there(store):
    store.prepare()
    workspace, resumed = store.claim_workspace("b", ("r1", "r2"))
    assert not resumed
    assert store.claim_workspace("b", ("r1", "r2")) == (workspace, False)
    (workspace / "checkpoint").write_text("x")
    assert store.claim_workspace("b", ("r1", "r2")) == (workspace, True)
    left = workspace.rename(
        workspace.with_name("b@" + workspace.name.rpartition("@")[2].rpartition("-")[0] + "-1")
    )
    for result in ("r1", "r2"):
        assert store.remove_garbage() == 0
        store.publish(result, store.new_output(result), "runs")
    assert left.exists()
    assert store.remove_garbage() == 1
    assert not left.exists()


def test_progress_counts_results():
    now = [0.0]
    progress = SweepProgress(lambda: now[0])
    progress.update({"event": "plan", "total": {"runs": 12}, "workers": 1})
    progress.update({"event": "start", "task": "b", "kind": "runs", "label": "", "results": 4})
    now[0] = 20.0
    progress.update(
        {"event": "progress", "task": "b", "kind": "runs", "label": "", "results": 4, "fraction": 0.5}
    )
    assert progress.snapshot().eta == pytest.approx(20 + 80)
    now[0] = 40.0
    progress.update({"event": "done", "task": "b", "kind": "runs", "label": "", "results": 4})
    shot = progress.snapshot()
    assert (shot.done, shot.total) == (4, 12)
    assert shot.eta == pytest.approx(80)
    assert shot.rate == pytest.approx(6)
