from __future__ import annotations

import pytest

from sharpscope.sweep import SweepProgress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def begin(clock, workers=1, **total):
    progress = SweepProgress(clock)
    progress.update({"event": "plan", "total": total, "workers": workers})
    return progress


def tell(progress, event, task, kind="runs", **fields):
    progress.update({"event": event, "task": task, "kind": kind, "label": "", **fields})


def test_nothing_is_promised_before_anything_is_known(clock):
    progress = begin(clock, runs=4)
    clock.now += 5
    tell(progress, "start", "a")
    clock.now += 5
    shot = progress.snapshot()
    assert (shot.total, shot.done, shot.running, shot.rate, shot.eta) == (4, 0, 1, None, None)
    assert shot.finished == 0.0
    assert SweepProgress(clock).snapshot().eta == 0.0


def test_rate_and_time_left_follow_finished_tasks(clock):
    progress = begin(clock, runs=5)
    tell(progress, "skipped", "e")
    for task in "ab":
        tell(progress, "start", task)
        clock.now += 10
        tell(progress, "done", task)
    shot = progress.snapshot()
    assert (shot.done, shot.skipped, shot.running) == (2, 1, 0)
    assert shot.rate == pytest.approx(6.0)
    assert shot.eta == pytest.approx(20.0)
    assert shot.finished == pytest.approx(3 / 5)


def test_fractions_make_the_time_left_smooth(clock):
    progress = begin(clock, runs=2)
    tell(progress, "start", "a")
    clock.now += 4
    tell(progress, "progress", "a", fraction=0.25)
    assert progress.snapshot().eta == pytest.approx(12 + 16)
    clock.now += 2
    assert progress.snapshot().eta == pytest.approx(10 + 16), "it goes on between reports"
    clock.now += 1000
    assert progress.snapshot().eta == pytest.approx(0.05 * 16 + 16), "but is never all but done unsaid"
    assert progress.snapshot().finished == pytest.approx(0.95 / 2)


def test_kinds_last_differently_and_workers_share(clock):
    progress = begin(clock, workers=2, runs=4, measures=10)
    for task in ("a", "b"):
        tell(progress, "start", task)
    clock.now += 60
    for task in ("a", "b"):
        tell(progress, "done", task)
    assert progress.snapshot().eta == pytest.approx((2 * 60 + 10 * 60) / 2), "unseen kinds last the average"
    tell(progress, "start", "m", kind="measures")
    clock.now += 3
    tell(progress, "done", "m", kind="measures")
    assert progress.snapshot().eta == pytest.approx((2 * 60 + 9 * 3) / 2)


def test_the_last_task_cannot_be_shared(clock):
    progress = begin(clock, workers=8, runs=2)
    tell(progress, "start", "a")
    tell(progress, "start", "b")
    clock.now += 10
    tell(progress, "done", "a")
    tell(progress, "progress", "b", fraction=0.1)
    shot = progress.snapshot()
    # 1.1 tasks took 20 s of work; 0.9 of one is left, and eight workers do it no sooner than one.
    assert shot.eta == pytest.approx(0.9 * 20 / 1.1)


def test_a_resumed_task_does_not_pretend_to_be_fast(clock):
    progress = begin(clock, runs=2)
    tell(progress, "start", "a", resumed=True)
    clock.now += 1
    tell(progress, "progress", "a", fraction=0.5)
    clock.now += 10
    tell(progress, "progress", "a", fraction=0.6)
    assert progress.snapshot().eta == pytest.approx(40 + 100)
    clock.now += 40
    tell(progress, "done", "a")
    assert progress.snapshot().eta == pytest.approx(100)


def test_failures_end_and_crashes_do_not(clock):
    progress = begin(clock, runs=4)
    tell(progress, "start", "a")
    clock.now += 10
    tell(progress, "done", "a")
    tell(progress, "start", "b")
    clock.now += 5
    tell(progress, "crashed", "b", attempt=1, reason="")
    assert progress.snapshot().running == 0
    assert progress.snapshot().eta == pytest.approx(30)
    tell(progress, "start", "b")
    tell(progress, "failed", "b", reason="", traceback="")
    tell(progress, "blocked", "c", because="b")
    shot = progress.snapshot()
    assert (shot.failed, shot.blocked, shot.running) == (1, 1, 0)
    assert shot.eta == pytest.approx(10)
    tell(progress, "skipped", "d")
    assert progress.snapshot().eta == 0.0
    assert progress.snapshot().finished == 1.0


def test_other_coordinators_count_in_what_is_done_and_how_long_it_takes(clock):
    progress = begin(clock, workers=1, runs=8)
    tell(progress, "start", "a")
    clock.now += 10
    tell(progress, "done", "a")
    assert progress.snapshot().eta == pytest.approx(70)
    progress.update({"event": "peers", "coordinators": 1, "workers": 3})
    assert progress.snapshot().eta == pytest.approx(70 / 4)
    tell(progress, "done", "b", elsewhere=True)
    tell(progress, "done", "c", elsewhere=True, results=2)
    shot = progress.snapshot()
    assert (shot.done, shot.elsewhere) == (4, 3)
    assert shot.eta == pytest.approx(40 / 4)
    assert shot.rate == pytest.approx(4 * 6)
    progress.update({"event": "peers", "coordinators": 0, "workers": 0})
    assert progress.snapshot().eta == pytest.approx(40)


def test_who_only_waits_for_others_goes_by_their_rate(clock):
    progress = begin(clock, workers=2, runs=6)
    clock.now += 20
    tell(progress, "done", "a", elsewhere=True, results=2)
    shot = progress.snapshot()
    assert (shot.done, shot.running) == (2, 0)
    assert shot.rate == pytest.approx(6)
    assert shot.eta == pytest.approx(40)
