"""The sweep that tests of every engine run through the command line, and what must not depend on the engine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import psutil
from safetensors.torch import load_file

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


def at_work(process, store, plain, mine):
    """Wait until a run is published and another just begun by a process of which `mine` holds; return that.

    `plain` is the same sweep's finished store: it tells runs from measures. However slow the machine is, the wait
    goes on while the sweep does: it ends when the sweep's `process` does, or has changed nothing for `STILL` seconds.
    """
    runs = {path.name for path in plain.glob("runs/*")}
    seen, before, changed = set(), None, time.monotonic()
    while process.poll() is None and time.monotonic() - changed < STILL:
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
