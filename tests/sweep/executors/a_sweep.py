"""The sweep that tests of every engine run through the command line, and what must not depend on the engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time

import psutil
from safetensors.torch import load_file

from docs.sweeps_page import write_study

RUNS = 6
STILL = (
    600.0  # seconds without any change after which a sweep hangs; an engine on a busy machine starts slowly
)
STUDY = """
name = "tiny"
[run]
data = { name = "digits", train_samples = 400, test_samples = 200 }
model = { name = "mlp", options = { hidden = [32] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 20
stop = { epochs = 400 }
[grid]
seed = [0, 1, 2]
"optimizer.lr" = [0.05, 0.1]
[[measures]]
measure = "lambda_max"
"""


def sharpscope(*words, cwd):
    """Start a command of ours and return its process."""
    return subprocess.Popen(
        [sys.executable, "-m", "sharpscope", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(store, *options, cwd):
    """Start the sweep into a store."""
    (cwd / "tiny.toml").write_text(STUDY)
    return sharpscope("run", "tiny.toml", "--store", store, "--no-report", *options, cwd=cwd)


def detach(store, *options, cwd):
    """Start the sweep from a terminal that is then closed, as at a logout; return the process that goes on."""
    (cwd / "tiny.toml").write_text(STUDY)
    words = ["run", "tiny.toml", "--store", store, "--no-report", "--detach", *options]
    ours, its = os.openpty()
    shell = subprocess.Popen(["setsid", "--ctty", "sh"], cwd=cwd, stdin=its, stdout=its, stderr=its)
    os.close(its)
    os.write(ours, shlex.join([sys.executable, "-m", "sharpscope", *words]).encode() + b"\n")
    said = b""
    while (goes_on := re.search(rb"save and stop:  kill (\d+)\s", said)) is None:
        said += os.read(ours, 4096)
        assert b"rror: " not in said, said.decode()
    os.close(ours)  # hangs up on the shell and whatever else is of its session
    shell.wait(timeout=600)
    return psutil.Process(int(goes_on[1]))


def check_that_it_outlives_its_terminal(store, *options, cwd, mine, strike):
    """Disturb a sweep that is detached: it must come to a laptop's tables; return what it printed.

    `strike` is called with a process that works on a run of the sweep and of which `mine` holds, and ends it.
    """
    finish(run("local", "--workers", "2", cwd=cwd))
    coordinator = detach(store, *options, cwd=cwd)
    lost = at_work(coordinator.is_running, cwd / store, cwd / "local", mine)
    told, _ = finish(sharpscope("status", store, "--json", cwd=cwd))
    assert json.loads(told)["coordinators"], told
    strike(lost)
    output, _ = finish(sharpscope("attach", store, cwd=cwd))
    psutil.wait_procs([lost], timeout=120)
    assert not lost.is_running()
    assert f"{RUNS} runs, {RUNS} measures: {2 * RUNS} done" in output
    assert output.count("worker lost (attempt 1)") == 1, output
    noise = [
        line for line in output.splitlines() if not line.startswith(("[", "6 runs,", "worker lost", "store:"))
    ]
    assert noise == []
    assert tables(cwd / store, cwd / "tables") == tables(cwd / "local", cwd / "plain")
    assert garbage(cwd / store) == []
    return output


def check_two_ranks(executor, cwd):
    """Run the page's study with two ranks for each task."""
    write_study(cwd)
    words = ["run", "rates.toml", "--executor", executor, "--ranks", "2", "--workers", "1", "--no-report"]
    output, _ = finish(sharpscope(*words, "--store", "store", cwd=cwd))
    assert output.startswith("4 runs, 4 measures: 8 done")
    found = [json.loads(path.read_text()) for path in (cwd / "store").glob("runs/*/environment.json")]
    assert [one["ranks"] for one in found] == [2] * 4
    measured = [json.loads(path.read_text()) for path in (cwd / "store").glob("measures/*/measure.json")]
    assert all("the data of all 2 ranks" in one["protocol"] for one in measured)


def finish(process, seconds=1800):
    """Return what a command printed, once it has ended well."""
    output, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, output + errors
    return output, errors


def tables(store, folder):
    """Return the bytes of the sweep's tables and of its trained weights, by name; no times are among them."""
    finish(sharpscope("export", store, "--output", folder, cwd=folder.parent))
    found = {name: (folder / name).read_bytes() for name in ("results.csv", "measures.csv")}
    history = (folder / "history.csv").read_text().splitlines()
    assert history[0].endswith(",seconds")
    found["history.csv"] = "\n".join(line.rpartition(",")[0] for line in history).encode()
    for path in sorted(store.glob("runs/*/checkpoint.safetensors")):
        found[path.parent.name] = {
            name: weights.numpy().tobytes() for name, weights in load_file(path).items()
        }
    return found


def garbage(store):
    """Return what a finished sweep must not leave."""
    folders = ("tmp", "work", "failures", "leases", "coordinators", ".slurm")
    return [path for name in folders for path in (store / name).glob("*")]


def at_work(lives, store, plain, mine):
    """Wait until a run is published and another just begun by a process of which `mine` holds; return that.

    `plain` is the same sweep's finished store: it tells runs from measures. However slow the machine is, the wait
    goes on while the sweep does: it ends where not `lives`, or where nothing has changed for `STILL` seconds.
    """
    runs = {path.name for path in plain.glob("runs/*")}
    seen, before, changed = set(), None, time.monotonic()
    while lives() and time.monotonic() - changed < STILL:
        published = any(store.glob("runs/*"))
        now = {
            path.name for folder in ("work", "runs", "leases", "tmp") for path in store.glob(f"{folder}/*")
        }
        if now != before:
            before, changed = now, time.monotonic()
        # one that is there already may be about to end
        for workspace in set(store.glob("work/*@*")) - seen:
            seen.add(workspace)
            with contextlib.suppress(psutil.NoSuchProcess):
                worker = psutil.Process(int(workspace.name.rsplit("-", 2)[1]))
                if published and workspace.name.partition("@")[0] in runs and mine(worker):
                    return worker
        time.sleep(0.02)
    raise AssertionError("no run began")
