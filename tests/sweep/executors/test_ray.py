"""A real Ray cluster of two nodes on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from docs.sweeps_page import of_ours, write_study
from sharpscope.errors import InputError, SharpscopeError
from sharpscope.sweep import LocalExecutor, Store, Task, run_tasks
from sharpscope.sweep.executors.interface import Resources
from sharpscope.sweep.executors.ray import RayExecutor
from sweep.executors.a_sweep import (
    check_that_it_outlives_its_terminal,
    check_two_ranks,
    finish,
    run,
    sharpscope,
)

pytest.importorskip("ray", exc_type=ImportError)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the script is for POSIX")]

SCRIPT = Path(__file__).parents[2] / "engines" / "ray.sh"


@pytest.fixture
def cluster(monkeypatch):
    """Start a cluster; return a function that carries out further commands of the script."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short paths
    monkeypatch.setenv("RAY", str(Path(sys.executable).parent / "ray"))

    def script(command):
        subprocess.run([SCRIPT, command, folder], check=True, timeout=1200)

    script("start")
    try:
        for line in Path(folder, "environment").read_text().splitlines():
            monkeypatch.setenv(*line.split("=", 1))
        yield script
    finally:
        script("stop")
        shutil.rmtree(folder, ignore_errors=True)


def of_the_second_node(process):
    return any("--node-name=second" in parent.cmdline() for parent in process.parents())


def test_a_detached_sweep_comes_to_a_laptop_s_tables_though_a_node_is_killed(cluster, tmp_path):
    check_that_it_outlives_its_terminal(
        *("ray", "--executor", "ray", "--workers", "2"),
        cwd=tmp_path,
        mine=of_the_second_node,
        strike=lambda lost: cluster("lose"),
    )


def test_the_page_s_commands_run(cluster, tmp_path, monkeypatch):
    write_study(tmp_path)
    head = os.environ["RAY_ADDRESS"]
    given = [words for words in of_ours("Ray") if "cuda" not in words]
    assert len(given) == 3
    for number, words in enumerate(given):
        if "--ray-address" not in words:
            monkeypatch.delenv("RAY_ADDRESS")
        else:
            monkeypatch.setenv("RAY_ADDRESS", head)
        words = [word.replace("HEAD:6379", head) for word in words]
        output, _ = finish(sharpscope(*words, "--store", f"store{number}", cwd=tmp_path))
        assert output.startswith("4 runs, 4 measures: 8 done")


@pytest.fixture(scope="module")
def local():
    """Connect this process to a cluster of its own, once for several tests; their executors leave it as it is."""
    import ray

    ray.init(
        "local", num_cpus=2, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False
    )
    yield
    ray.shutdown()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def task(task_id, function, **payload):
    return Task(task_id, "runs", f"sweep.fake_tasks:{function}", payload)


def test_ctrl_c_saves_and_the_next_call_goes_on_from_there(local, store):
    tasks = [task(f"t{i}", "count", steps=150, factor=i) for i in range(4)]
    events = []

    def watch(event):
        events.append(event)
        if event["event"] == "progress" and sum(e["event"] == "progress" for e in events) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    summary = run_tasks(store, tasks, executor=RayExecutor(store.root), on_event=watch)
    assert summary.interrupted
    assert (summary.done, summary.failed) == (0, 0)
    saved = len(list(store.root.glob("work/*/count.txt")))
    assert 1 <= saved <= 2
    assert list((store.root / "tmp").iterdir()) == []
    events.clear()
    summary = run_tasks(store, tasks, executor=RayExecutor(store.root), on_event=events.append)
    assert (summary.done, summary.interrupted) == (4, False)
    assert sum(event["resumed"] for event in events if event["event"] == "start") == saved
    assert list((store.root / "work").iterdir()) == []


def test_workers_find_what_a_laptop_s_find(local, store, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import os\ndef save(payload, context):\n"
        "    (context.output / 'x.txt').write_text(open('beside.txt').read() + os.environ['MKL_NUM_THREADS'])\n"
    )
    (tmp_path / "beside.txt").write_text("found, ")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    tasks = [Task("mine", "runs", "mine:save"), task("environment", "environment")]
    trees = []
    for name, executor in (("ray", RayExecutor), ("local", LocalExecutor)):
        folder = Store(tmp_path / name).root
        given = {"resources": Resources(threads=2)} if name == "ray" else {"threads": 2}
        assert run_tasks(Store(folder), tasks, executor=executor(folder, workers=1, **given)).done == 2
        trees.append({p.name: p.read_text() for p in folder.glob("runs/*/*.txt")})
    assert trees[0] == trees[1]
    assert trees[0]["x.txt"] == "found, 2"


def test_a_worker_that_dies_is_replaced_and_its_log_tail_is_kept(local, store, tmp_path):
    tasks = [task("never", "die", file=str(tmp_path / "never"), times=99), task("good", "write", value=1)]
    summary = run_tasks(store, tasks, executor=RayExecutor(store.root))
    assert (summary.done, summary.failed) == (1, 1)
    assert "SIGKILL" in summary.failures[0].reason
    assert "log tail" in summary.failures[0].log


def test_an_actor_that_is_killed_is_a_lost_worker(local, store):
    executor = RayExecutor(store.root, workers=1)
    events = []

    def watch(event):
        events.append(event)
        if event["event"] == "start" and len([e for e in events if e["event"] == "start"]) == 1:
            worker = psutil.Process(int(event["where"].rsplit("-", 2)[1]))
            worker.parent().kill()

    summary = run_tasks(store, [task("t", "count", steps=40, factor=3)], executor=executor, on_event=watch)
    assert summary.done == 1
    (crash,) = [event for event in events if event["event"] == "crashed"]
    assert "\n" not in crash["reason"]
    assert "its Ray worker on" in crash["reason"]


def test_what_no_node_has_is_refused_and_a_store_that_nodes_do_not_see_is_named(local, store):
    with pytest.raises(InputError, match="1 CPU and 0.5 GPU and no node of the Ray cluster has that"):
        RayExecutor(store.root, Resources(gpus=0.5))
    for three in (Resources(threads=3), Resources(ranks=3)):  # all ranks of a task are on one node
        with pytest.raises(InputError, match="3 CPUs and no node"):
            RayExecutor(store.root, three)
    assert RayExecutor(store.root).workers == 2
    assert RayExecutor(store.root, Resources(threads=2)).workers == 1
    elsewhere = RayExecutor(store.root / "elsewhere", workers=1)
    with pytest.raises(SharpscopeError, match=r"workers cannot start \(on node .* there is no store at"):
        run_tasks(store, [task("t", "write", value=1)], executor=elsewhere)


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    process = run("store", "--executor", "ray", "--ray-address", "127.0.0.1:1", cwd=tmp_path)
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 2
    assert errors.startswith("error: cannot reach a Ray cluster at '127.0.0.1:1'")
    assert errors.count("\n") == 1


def test_two_ranks_share_a_ray_worker(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_two_ranks("ray", tmp_path)
