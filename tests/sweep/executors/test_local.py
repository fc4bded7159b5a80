"""What local workers find around them: devices dealt out, another import path, another working directory."""

from __future__ import annotations

import os
import time

from sharpscope.sweep import LocalExecutor, Store, Task, run_tasks
from sharpscope.sweep.executors.worker_environment import WorkerEnvironment, visible_devices


def devices(store):
    return sorted(path.read_text() for path in store.root.glob("runs/*/device.txt"))


def task(name, entry="sweep.executors.fake_devices:note_device", **payload):
    return Task(name, "runs", entry, payload)


def test_workers_are_dealt_devices_evenly_and_each_sees_its_own_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7,9")
    tasks = [task(f"t{i}") for i in range(5)]  # all started before the first can end
    for name, given, expected in (
        ("dealt", visible_devices(3), ["3", "3", "7", "7", "9"]),
        ("not dealt", (), ["3,7,9"] * 5),
    ):
        store = Store(tmp_path / name)
        run_tasks(store, tasks, executor=LocalExecutor(store.root, 5, devices=given))
        assert devices(store) == expected


def test_a_worker_in_a_dead_one_s_place_takes_its_device(tmp_path):
    store = Store(tmp_path)
    executor = LocalExecutor(store.root, 3, devices=("0", "1"))
    try:
        for name in ("a", "b"):
            executor.submit(task(name, "sweep.fake_tasks:stubborn", seconds=60))
        executor._processes[0].kill()
        patience = time.monotonic() + 60
        while not any(m["event"] == "lost" for m in executor.wait(1.0)):
            assert time.monotonic() < patience
        executor.submit(task("c"))
        while not any(m["event"] == "done" for m in executor.wait(1.0)):
            assert time.monotonic() < patience
    finally:
        executor.kill()
    assert devices(store) == ["0"]


def test_no_more_devices_are_named_than_there_are():
    assert visible_devices(1, {"CUDA_VISIBLE_DEVICES": "2,5"}) == (
        "2",
    )  # CUDA stops at the first it cannot find
    assert visible_devices(0, {}) == ()
    assert visible_devices(3, {"CUDA_VISIBLE_DEVICES": ""}) == ("0", "1", "2")


def test_a_worker_stands_where_it_is_told_and_imports_from_there(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "over_there.py").write_text(
        "import os\ndef save(payload, context):\n    (context.output / 'folder.txt').write_text(os.getcwd())\n"
    )
    store = Store(tmp_path / "store")
    around = WorkerEnvironment((*WorkerEnvironment.here().path, str(folder)), str(folder))
    executor = LocalExecutor(store.root, 1, environment=around)
    assert run_tasks(store, [task("t", "over_there:save")], executor=executor).done == 1
    assert (store.path("t") / "folder.txt").read_text() == str(folder)
    assert os.getcwd() != str(folder)
