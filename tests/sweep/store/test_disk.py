"""Disks that fill up, turn read-only or shut somebody out in the middle of a sweep: one sentence, nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest

from sharpscope.errors import StoreError
from sharpscope.sweep import Store, Task, run_tasks
from sweep.chaos import left_behind
from sweep.fake_tasks import workers_left

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts are Linux's here")

MEGABYTE = 1 << 20


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder that is a disk of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", folder)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def bulky(count, size, **payload):
    """Return tasks that write as many bytes each, in pieces."""
    return [
        Task(f"t{i}", "runs", "sweep.fake_tasks:bulk", {"seed": i, "size": size, **payload})
        for i in range(count)
    ]


def whole(store, tasks):
    """Say that the store has every result, all as published, and nothing else."""
    assert set(store.published()) == {task.id for task in tasks}
    assert store.find_damage(known=store.published()) == {}
    assert left_behind(store) == []
    for task in tasks:
        assert (store.path(task.id) / "bulk").stat().st_size == task.payload["size"]


def one_sentence(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    assert "; " in text, "no remedy"
    for part in parts:
        assert part in text


def test_a_disk_that_fills_up_stops_the_sweep_and_more_room_lets_it_go_on(small_disk):
    store = Store(small_disk / "store")
    tasks = bulky(12, MEGABYTE // 2)
    with pytest.raises(StoreError) as error:
        run_tasks(store, tasks, workers=2)
    one_sentence(error, "No space left on device; free some space, then run the same command again")
    assert not workers_left()
    done = store.published()
    assert 0 < len(done) < 8
    assert store.find_damage(known=done) == {}
    assert store.failures() == [], "the disk's fault is not the tasks'"
    with pytest.raises(StoreError, match="No space left on device"):
        run_tasks(store, tasks, workers=2)
    assert set(store.published()) >= set(done)
    assert mount("-o", "remount,size=32m", small_disk).returncode == 0
    summary = run_tasks(store, tasks, workers=2)
    assert (summary.failed, summary.done + summary.skipped) == (0, 12)
    whole(store, tasks)


def test_a_disk_without_any_room_refuses_before_anything_is_done(small_disk):
    store = Store(small_disk / "store")
    with contextlib.suppress(OSError), open(small_disk / "full", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(StoreError) as error:
        run_tasks(store, bulky(2, 10), workers=1)
    one_sentence(error, "cannot write to the store", "No space left on device; free some space")
    (small_disk / "full").unlink()
    run_tasks(store, bulky(2, 10), workers=1)
    whole(store, bulky(2, 10))


def test_a_disk_that_turns_read_only_stops_the_sweep_and_can_still_be_looked_at(small_disk):
    store = Store(small_disk / "store")
    tasks = bulky(8, 1000, seconds=0.2)

    def shut(event):
        if event["event"] == "done":
            patience = time.monotonic() + 10
            while mount("-o", "remount,ro", small_disk).returncode and time.monotonic() < patience:
                time.sleep(0.005)  # busy while a file is open for writing

    with pytest.raises(StoreError) as error:
        run_tasks(store, tasks, workers=2, on_event=shut)
    one_sentence(error, "Read-only file system; make the folder writable or choose another one")
    done = Store(store.root, create=False).published()
    assert 0 < len(done) < 8
    assert store.find_damage(known=done) == {}
    assert store.failures() == []
    assert run_tasks(store, [task for task in tasks if task.id in done]).skipped == len(done)
    assert mount("-o", "remount,rw", small_disk).returncode == 0
    assert run_tasks(store, tasks, workers=2).failed == 0
    whole(store, tasks)


SHUT_OUT = """
import os, sys
from sharpscope.errors import StoreError
from sharpscope.sweep import Store, run_tasks
from sweep.store.test_disk import bulky
store = Store(sys.argv[1])
folders = [store.root / name for name in ("runs", "tmp", "work", "leases", "failures", "coordinators")]
def allow(mode):
    for folder in [store.root, *folders]:
        if folder.is_dir():
            folder.chmod(mode)
def shut(event):
    if event["event"] == "done":
        allow(0o555)
try:
    run_tasks(store, bulky(8, 1000, seconds=0.2), workers=2, on_event=shut)
except StoreError as error:
    print(error)
print(len(store.published()), store.find_damage(known=store.published()), store.failures())
allow(0o755)
print(run_tasks(store, bulky(8, 1000), workers=2).failed)
"""


def test_permission_lost_in_the_middle_stops_the_sweep_and_given_back_lets_it_go_on(tmp_path):
    without = []
    if os.geteuid() == 0:  # root may write anywhere by a capability that it can do without
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and there is no setpriv to take that away")
        without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    outcome = subprocess.run(
        [*without, sys.executable, "-c", SHUT_OUT, str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
    )
    assert outcome.stderr == ""
    sentence, then, failed = outcome.stdout.splitlines()
    assert "Permission denied; make the folder writable or choose another one" in sentence
    assert 0 < int(then[0]) < 8
    assert then[1:] == " {} []"
    assert failed == "0"
    whole(Store(tmp_path / "store"), bulky(8, 1000))


@pytest.mark.parametrize("moment", [0, 4_000_000_000])
def test_files_dated_anywhen_change_nothing(tmp_path, moment):
    store = Store(tmp_path / "store")
    tasks = bulky(4, 100, seconds=0.05)

    def date(event):
        if event["event"] == "done":
            for path in store.root.rglob("*"):
                if path.exists():
                    os.utime(path, (moment, moment))

    summary = run_tasks(store, tasks, workers=2, on_event=date)
    assert (summary.done, summary.failed) == (4, 0)
    whole(store, tasks)
