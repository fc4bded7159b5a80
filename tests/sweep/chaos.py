"""Chaos: coordinators that share a store, killed with -9 together with their workers at random moments.

Run as a script it is the whole show: 200 small trainings of digits, a measure of each, two coordinators of two
workers for two minutes or until all is done, then a run that finishes::

    python tests/sweep/chaos.py --seconds 120 --folder /tmp/chaos

Coordinators are also suspended for a while, their workers with them. Where libfaketime is installed, every second
coordinator has a clock that is an hour ahead.

It exits with 0 exactly when something was killed or suspended, the tables are byte for byte those of an undisturbed
run, every checksum holds, nothing was published or made in vain twice, and nothing is left behind.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sharpscope.sweep import Store
from sharpscope.sweep.store.records import read_journal

STUDY = """
name = "chaos"
[run]
data = "digits"
model = { name = "mlp", options = { hidden = [16] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 8
stop = { epochs = EPOCHS }
[grid]
"optimizer.lr" = [0.02, 0.05, 0.1, 0.2, 0.5]
seed = [SEEDS]
[[measures]]
measure = "gradient_norm"
"""


@dataclass
class Toll:
    """What was done to the coordinators: how many were started, how many killed, and how many workers."""

    started: int = 0
    coordinators: int = 0
    workers: int = 0
    suspended: int = 0
    left: list[int] = field(default_factory=list)


def unleash(
    start: Callable[[], subprocess.Popen[bytes]],
    seconds: float,
    pause: tuple[float, float],
    dice: random.Random,
    together: int = 2,
    at_coordinators: float = 0.2,
    suspending: float = 0.0,
    enough: Callable[[Toll], bool] = lambda toll: False,
) -> Toll:
    """Keep coordinators at work and kill one of them or a worker after every pause, until time is up or it is enough.

    Of the strokes, the share `suspending` stops a coordinator and its workers for one more pause, and the share
    `at_coordinators` of the others kills a coordinator. In the end every coordinator is killed.
    """
    toll = Toll()
    running: list[subprocess.Popen[bytes]] = []
    children: set[psutil.Process] = set()
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until and not enough(toll):
            running = [process for process in running if process.poll() is None]
            while len(running) < together:
                running.append(start())
                toll.started += 1
            time.sleep(dice.uniform(*pause))
            workers = [child for process in running for child in children_of(process)]
            children.update(workers)
            if suspending and dice.random() < suspending:
                victim = dice.choice(running)
                send(signal.SIGSTOP, victim)
                time.sleep(dice.uniform(*pause))
                send(signal.SIGCONT, victim)
                toll.suspended += 1
            elif dice.random() >= at_coordinators:
                # a coordinator that is only starting has no workers yet, and is left alone
                for worker in dice.sample(workers, min(len(workers), 1)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        worker.send_signal(signal.SIGKILL)
                        toll.workers += 1
            else:
                victim = dice.choice(running)
                if victim.poll() is None:
                    victim.kill()
                    victim.wait()
                    toll.coordinators += 1
    finally:
        for process in running:
            children.update(children_of(process))
            process.kill()
            process.wait()
    _, alive = psutil.wait_procs(list(children), timeout=5)
    toll.left = [process.pid for process in alive]
    return toll


def send(number: signal.Signals, process: subprocess.Popen[bytes]) -> None:
    """Send a signal to a coordinator and its workers, as far as they live."""
    for one in (process.pid, *(child.pid for child in children_of(process))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, number)


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the workers of a coordinator, none when it is gone."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def left_behind(store: Store) -> list[str]:
    """Return what lies in a store beside results and study: nothing should."""
    names = ("tmp", "work", "leases", "coordinators", "failures")
    return [f"{name}/{path.name}" for name in names for path in (store.root / name).iterdir()]


def twice_published(store: Store) -> list[str]:
    """Return the results that the journal says were published, or made in vain, more than once."""
    made = [e["id"] for e in read_journal(store.root) if e["event"] in ("published", "discarded")]
    return [one for one, count in collections.Counter(made).items() if count > 1]


def files(store: Store) -> set[str]:
    """Return the path of every published file."""
    return {
        str(path.relative_to(store.root)) for kind in store.kinds() for path in (store.root / kind).rglob("*")
    }


def main() -> None:
    """Run the show and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--folder", type=Path, default=Path("chaos"))
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--pause", type=float, nargs=2, default=(3.0, 8.0), help="seconds between kills")
    parser.add_argument("--dice", type=int, default=0)
    asked = parser.parse_args()
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    study = asked.folder / "chaos.toml"
    seeds = ", ".join(map(str, range(asked.seeds)))
    study.write_text(STUDY.replace("SEEDS", seeds).replace("EPOCHS", str(asked.epochs)))

    def command(store: str, workers: int) -> list[str]:
        run = [sys.executable, "-m", "sharpscope", "run", str(study), "--store", str(asked.folder / store)]
        return [*run, "--workers", str(workers), "--no-report"]

    clocks = itertools.cycle([os.environ, hour_ahead()])

    def start() -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command("store", 2), stdout=quiet, stderr=quiet, env=dict(next(clocks)))

    begin = time.monotonic()
    store = Store(asked.folder / "store")
    total = 2 * 5 * asked.seeds
    toll = unleash(
        start,
        asked.seconds,
        tuple(asked.pause),
        random.Random(asked.dice),
        suspending=0.3,
        enough=lambda toll: len(store.published()) == total,
    )
    print(
        f"{time.monotonic() - begin:.0f} s of chaos: {toll.started} coordinators started, two at a time with two"
    )
    print(f"workers each; {toll.coordinators} of them and {toll.workers} workers killed with -9")
    print(f"coordinators suspended with their workers, and resumed: {toll.suspended}")
    print(f"a clock an hour ahead on every second coordinator: {hour_ahead() != os.environ}")
    print(f"processes left behind: {toll.left or 'none'}")
    amid = len(store.published())
    print(f"published by then: {amid} of {total} results")
    if amid == total:
        print(
            f"all was done before {asked.seconds:g} s were over, and the chaos ended; --seeds gives more work"
        )
    begin = time.monotonic()
    subprocess.run(command("store", 2), check=True, capture_output=True)
    print(f"finished in {time.monotonic() - begin:.0f} s more: {len(store.published())} results")
    events = collections.Counter(entry["event"] for entry in read_journal(store.root))
    print(f"journal: {dict(events)}; published or made in vain twice: {twice_published(store) or 'none'}")
    print(f"left behind: {left_behind(store) or 'none'}")
    damage = subprocess.run(
        [sys.executable, "-m", "sharpscope", "status", str(store.root), "--verify"], capture_output=True
    )
    intact = damage.returncode == 0
    print(f"every checksum holds: {intact}")

    begin = time.monotonic()
    subprocess.run(command("undisturbed", 2), check=True, capture_output=True)
    print(f"an undisturbed run takes {time.monotonic() - begin:.0f} s")
    calm = Store(asked.folder / "undisturbed", create=False)
    same = {"files": files(store) == files(calm)}
    for name in ("store", "undisturbed"):
        export = [sys.executable, "-m", "sharpscope", "export", str(asked.folder / name)]
        subprocess.run(
            [*export, "--output", str(asked.folder / f"{name}-tables")], check=True, capture_output=True
        )
    for path in sorted((asked.folder / "undisturbed-tables").iterdir()):
        mine, other = path.read_bytes(), (asked.folder / "store-tables" / path.name).read_bytes()
        same[path.name] = (untimed(mine) == untimed(other)) if path.name == "history.csv" else mine == other
    print(f"byte for byte the same (history without its seconds): {same}")
    disturbed = toll.coordinators + toll.workers + toll.suspended > 0
    whole = intact and all(len(one.published()) == total for one in (store, calm))
    clean = not (toll.left or twice_published(store) or left_behind(store))
    sys.exit(not (disturbed and whole and clean and all(same.values())))


def hour_ahead() -> Mapping[str, str]:
    """Return the environment of a process whose clock is an hour ahead, this one's without libfaketime."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        return os.environ
    # waits for a time of the monotonic clock would not end, were that an hour ahead too
    fake = {"LD_PRELOAD": str(library), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {**os.environ, **fake, "DONT_FAKE_MONOTONIC": "1"}


def untimed(table: bytes) -> list[list[bytes]]:
    """Return the cells of a CSV table without its column of seconds."""
    lines = [line.split(b",") for line in table.splitlines()]
    place = lines[0].index(b"seconds")
    return [line[:place] + line[place + 1 :] for line in lines]


if __name__ == "__main__":
    main()
