"""How long the commands take on a store of 2,000 runs with five measures each, and planning 100,000 runs.

    python benchmarks/store.py [--runs 2000] [--planned 100000] [--folder FOLDER]

The results are made up but whole: configurations, histories of twenty epochs and checkpoints go through the store's
own `publish`, with every manifest and every force to the disk, so that the first figure is what publishing costs.
Then every command runs as a process of its own, imports included, three times; the median is printed with its limit.

First a run of 100,000 small trainings is begun in a process of its own, and ended where its first task would start:
what it took until then by the clock, of the processor and of memory, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sharpscope.data import load
from sharpscope.models import build
from sharpscope.studies import load_study, make_plan
from sharpscope.studies.results.records import keep_records
from sharpscope.sweep import Store
from sharpscope.training import save_checkpoint, weight_seed

STUDY = """
name = "many"
[run]
data = "digits"
model = { name = "mlp", options = { hidden = [8] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 32
stop = { epochs = 20 }
[grid]
"optimizer.lr" = [LR]
batch_size = [8, 16, 32, 64, 128]
seed = [SEED]
[[measures]]
measure = "lambda_max"
[[measures]]
measure = "trace"
[[measures]]
measure = "frobenius_norm"
[[measures]]
measure = "gradient_norm"
[[measures]]
measure = "average_direction"
radius = 1.0
"""
LIMITS = {"status": 2.0, "export csv": 5.0, "export parquet": 5.0, "report": 20.0}
EPOCHS = 20


def fill(folder: Path, runs: int) -> Store:
    """Make the store: `runs` runs and their measures, published as a worker publishes them."""
    rates = ", ".join(f"{0.01 * 1.1**i:.6g}" for i in range(max(1, runs // 100)))
    study = folder / "many.toml"
    study.write_text(STUDY.replace("LR", rates).replace("SEED", ", ".join(map(str, range(20)))))
    plan = make_plan(load_study(str(study)))
    store = Store(folder / "store")
    store.prepare()
    keep_records(store, [plan.record()])
    dataset = load(plan.runs[0].config.data)
    model = build(plan.runs[0].config.model, dataset, weight_seed(plan.runs[0].config))
    random = np.random.default_rng(0)
    for run in plan.runs:
        output = store.new_output(run.id)
        losses = np.sort(random.uniform(0.01, 2.3, EPOCHS))[::-1]
        write(output / "config.json", run.config.model_dump(mode="json"))
        write(
            output / "outcome.json",
            {
                "status": "finished",
                "stop_reason": "epochs",
                "epochs": EPOCHS,
                "parameters": sum(p.numel() for p in model.parameters()),
                "train_samples": len(dataset.train),
                "train_loss": losses[-1],
                "train_accuracy": float(np.exp(-losses[-1])),
                "test_loss": losses[-1] * 1.2,
                "test_accuracy": float(np.exp(-1.2 * losses[-1])),
                "validation_loss": None,
                "validation_accuracy": None,
                "data": {"standardisation": dataset.standardisation, "notes": list(dataset.notes)},
            },
        )
        environment = {"torch": torch.__version__, "threads": 1, "device": "cpu", "platform": "made up"}
        write(output / "environment.json", {**environment, "python": "3", "seconds": 1.0})
        history = {"epoch": range(1, EPOCHS + 1), "epoch_loss": losses, "train_loss": losses}
        pd.DataFrame({**history, "test_loss": 1.2 * losses, "seconds": 0.05}).to_parquet(
            output / "history.parquet", index=False
        )
        save_checkpoint(output / "checkpoint.safetensors", model, metadata={"run": run.id})
        store.publish(run.id, output, "runs")
    for measure in plan.measures:
        output = store.new_output(measure.id)
        value = float(random.lognormal())
        write(
            output / "measure.json",
            {
                "measure": "",
                "definition": measure.spec["measure"],
                "run_id": measure.run,
                "value": value,
                "stderr": 0.01 * value,
                "error": None,
                "low": 0.98 * value,
                "high": 1.02 * value,
                "samples": 100.0,
                "converged": True,
                "losses": 0.0,
                "gradients": 0.0,
                "products": 40.0,
                "protocol": '{"dropout": false, "dtype": "float32", "mode": "eval"}',
                "fingerprint": "f6ebe6ab4950497b",
            },
        )
        write(output / "timing.json", {"seconds": 0.1})
        store.publish(measure.id, output, "measures", (measure.run,))
    return store


def write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


# Takes the place of what would work through the tasks.
UNTIL_THE_FIRST_TASK = """
import sys
from sharpscope.sweep import Summary
from sharpscope.sweep.scheduling import run
from sharpscope.cli import main

def stop(self, stop_requests):
    print(len(self._schedule.tasks), file=sys.stderr)
    return Summary(0, 0, 0, 0, True, 0.0)

run.Coordinator.run = stop
main()
"""


def plan(folder: Path, runs: int) -> None:
    """Begin a run of so many trainings and print what it took up to its first task."""
    rates = ", ".join(f"{0.0001 * (i + 1):.6g}" for i in range(max(1, runs // 500)))
    study = folder / "large.toml"
    text = STUDY.replace("LR", rates).replace("SEED", ", ".join(map(str, range(100))))
    study.write_text(text[: text.index("[[measures]]")])
    command = ["run", str(study), "--store", str(folder / "large"), "--no-report", "--workers", "1"]
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", UNTIL_THE_FIRST_TASK, *command], capture_output=True, text=True
    )
    wall = time.monotonic() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    count, processor = ended.stderr.split()[-1], used.ru_utime + used.ru_stime
    print(f"{count} runs planned in {wall:.1f} s (at most 30), {processor:.1f} of them of the processor,")
    print(f"{used.ru_maxrss / 1024:.0f} MiB (at most 1024)")


def main() -> None:
    """Fill a store and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--planned", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        plan(Path(made), asked.planned)  # first, since the largest child's memory is what the system tells
        if not (folder / "store").is_dir():
            begin = time.monotonic()
            folder.mkdir(parents=True, exist_ok=True)
            store = fill(folder, asked.runs)
            count, seconds = len(store.published()), time.monotonic() - begin
            print(f"{count} results published in {seconds:.0f} s, {1000 * seconds / count:.1f} ms each")
        path = str(folder / "store")
        commands = {
            "status": ["status", path],
            "status --verify": ["status", path, "--verify"],
            "export csv": ["export", path, "--output", str(folder / "csv")],
            "export parquet": ["export", path, "--output", str(folder / "parquet"), "--format", "parquet"],
            "report": ["report", path, "--output", str(folder / "report")],
        }
        for name, arguments in commands.items():
            times = []
            for _ in range(3):
                begin = time.monotonic()
                subprocess.run(
                    [sys.executable, "-m", "sharpscope", *arguments], check=True, capture_output=True
                )
                times.append(time.monotonic() - begin)
            limit = f"  (at most {LIMITS[name]:g} s)" if name in LIMITS else ""
            print(f"{name:16} {statistics.median(times):6.2f} s{limit}")


if __name__ == "__main__":
    main()
