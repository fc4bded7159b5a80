"""A real Slurm of this machine, started by the script; skipped where it or submitit is not installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from docs.sweeps_page import of_ours, write_study
from sharpscope.sweep import Store, Task, run_tasks
from sharpscope.sweep.executors.interface import Resources
from sharpscope.sweep.executors.slurm.commands import SlurmOptions
from sharpscope.sweep.executors.slurm.executor import SlurmExecutor
from sweep.executors.a_sweep import (
    check_that_it_outlives_its_terminal,
    check_two_ranks,
    finish,
    garbage,
    run,
    sharpscope,
)
from sweep.executors.test_slurm_jobs import once, starts

if any(shutil.which(name) is None for name in ("slurmctld", "slurmd", "munged")):
    pytest.skip("Slurm is not installed", allow_module_level=True)
pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's own processes are root's"),
]

SCRIPT = Path(__file__).parents[2] / "engines" / "slurm.sh"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Start Slurm for the tests of this file; its commands find it by SLURM_CONF."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True, timeout=600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            yield
        finally:
            subprocess.run([SCRIPT, "stop", folder], check=True, timeout=600)


def ask(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=300).stdout


def job_of(process):
    """Return the job, as ``array_index``, that a worker process is in."""
    own = process.environ()
    return f"{own['SLURM_ARRAY_JOB_ID']}_{own['SLURM_ARRAY_TASK_ID']}"


def worker(event):
    return psutil.Process(int(event["where"].rsplit("-", 2)[1]))


@pytest.fixture
def store(tmp_path, slurm):
    return Store(tmp_path / "store")


def counting(count=2, steps=300):
    return [
        Task(f"t{i}", "runs", "sweep.fake_tasks:count", {"steps": steps, "factor": i}) for i in range(count)
    ]


def go(store, tasks, meddle=None, **options):
    """Run tasks on two jobs; `meddle` is called with what tells of a step, and with the job that made it."""
    events, jobs = [], {}

    def watch(event):
        events.append(event)
        if event["event"] == "start":
            jobs[event["worker"]] = job_of(worker(event))
        if event["event"] == "progress" and meddle is not None:
            meddle({**event, "job": jobs[event["worker"]]})

    executor = SlurmExecutor(store.root, workers=2, ask_every=1.0, **options)
    summary = run_tasks(store, tasks, executor=executor, on_event=watch)
    assert not (store.root / ".slurm").exists()
    return summary, events


def test_a_detached_sweep_comes_to_a_laptop_s_tables_though_a_job_is_cancelled(slurm, tmp_path):
    cancelled = []

    def cancel(lost):
        cancelled.append(job_of(lost))
        ask("scancel", *cancelled)

    output = check_that_it_outlives_its_terminal(
        *("slurm", "--executor", "slurm", "--workers", "3"),
        cwd=tmp_path,
        mine=lambda process: True,
        strike=cancel,
    )
    assert f"its Slurm job {cancelled[0]} was cancelled" in output
    assert not (tmp_path / "slurm" / ".slurm").exists()
    assert ask("squeue", "--noheader") == ""


@pytest.mark.parametrize(
    "command",
    [["scontrol", "requeue"], ["scancel", "--signal=USR2"]],
    ids=["to make room", "before its time limit"],
)
def test_a_job_that_slurm_ends_is_queued_again_and_goes_on(store, command):
    summary, events = go(store, counting(), once(lambda event: ask(*command, event["job"])))
    assert (summary.done, summary.failed) == (2, 0)
    assert [event for event in events if event["event"] in ("crashed", "interrupted")] == []
    assert starts(events) == [False, False, True]


def test_ctrl_c_saves_and_leaves_no_job(store):
    summary, events = go(store, counting(4), once(lambda event: os.kill(os.getpid(), signal.SIGINT)))
    assert summary.interrupted
    assert sum(event["event"] == "interrupted" for event in events) == 2
    patience = (
        time.monotonic() + 60
    )  # a job has said goodbye, and Slurm learns a moment later that it has ended
    while ask("squeue", "--noheader", "--states=PENDING,RUNNING") and time.monotonic() < patience:
        time.sleep(0.2)
    assert ask("squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    summary, events = go(store, counting(4))
    assert (summary.done, summary.interrupted) == (4, False)
    assert any(starts(events))


def test_a_job_gets_what_it_asks_for(store):
    asked = []

    def look(event):
        asked.append(ask("squeue", "--noheader", f"--jobs={event['job']}", "--format=%C|%l|%m|%j|%k|%P"))

    go(
        store,
        counting(1),
        once(look),
        resources=Resources(threads=2, memory=1.0),
        options=SlurmOptions("1:30:00", "compute", {"comment": "a note"}),
    )
    assert asked == ["2|1:30:00|953M|sharpscope|a note|compute\n"]


def test_what_slurm_refuses_is_told_in_its_words(slurm, tmp_path):
    process = run("store", "--executor", "slurm", "--partition", "nowhere", cwd=tmp_path)
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 2
    assert "error: Slurm refused the jobs (sbatch: error: " in errors
    assert "invalid partition" in errors
    assert "Traceback" not in errors
    assert garbage(tmp_path / "store") == []


def test_the_page_s_commands_run(slurm, tmp_path):
    write_study(tmp_path)
    (words,) = [words for words in of_ours("Slurm") if "cuda" not in words]
    output, _ = finish(sharpscope(*words, cwd=tmp_path))
    assert output.startswith("4 runs, 4 measures: 8 done")


def test_two_ranks_share_a_job(slurm, tmp_path):
    check_two_ranks("slurm", tmp_path)
