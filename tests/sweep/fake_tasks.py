"""Small tasks for worker processes to import by name; each result depends on its payload alone."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

from sharpscope.errors import InputError
from sharpscope.sweep import Interrupted


def write(payload, context):
    """Write a small file, some of it from what is needed, after `seconds`."""
    time.sleep(payload.get("seconds", 0))
    inherited = [(context.needs[need] / "value.txt").read_text() for need in sorted(context.needs)]
    (context.output / "value.txt").write_text(f"{payload['value']} {inherited}\n")


def environment(payload, context):
    """Write down what a computation would find."""
    print("printed for a person, not for the coordinator")
    lines = [
        f"{name}={os.environ.get(name)}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED")
    ]
    lines += [f"threads={context.threads}", f"hash={hash('text')}", f"torch={'torch' in sys.modules}"]
    (context.output / "environment.txt").write_text("\n".join(lines))


def count(payload, context):
    """Count in small steps, saving each, and go on from the last one saved."""
    saved = context.workspace / "count.txt"
    done = int(saved.read_text()) if saved.exists() else 0
    for step in range(done, payload["steps"]):
        if context.should_stop():
            raise Interrupted
        time.sleep(payload.get("step_seconds", 0.01))
        new = context.workspace / "count.new"
        new.write_text(str(step + 1))
        os.replace(new, saved)
        context.report({"fraction": (step + 1) / payload["steps"], "step": step + 1})
    nested = context.output / "history"
    nested.mkdir()
    (nested / "steps.txt").write_text(
        " ".join(str(step * payload["factor"]) for step in range(payload["steps"]))
    )
    (context.output / "value.txt").write_text(str(payload["steps"] * payload["factor"]))


def stubborn(payload, context):
    """Never look at whether to stop."""
    (context.output / "half.txt").write_text("half")
    time.sleep(payload["seconds"])


def joined(payload, context):
    """Let the other ranks join, and wait at the meeting place for the files that they leave there."""
    with context.join(f"sweep.fake_tasks:{payload['join']}", payload) as address:
        place = Path(address.removeprefix("file://"))
        while not all(place.with_suffix(f".{rank}").exists() for rank in range(1, context.ranks)):
            if payload.get("raises") or place.with_suffix(".left").exists():
                raise RuntimeError("connection closed by peer")
            time.sleep(0.01)
    said = [place.with_suffix(f".{rank}").read_text() for rank in range(1, context.ranks)]
    (context.output / "value.txt").write_text(" ".join(said))


def other_rank(payload, rank):
    """Leave a file at the meeting place."""
    place = Path(rank.address.removeprefix("file://"))
    place.with_suffix(f".{rank.rank}").write_text(f"{rank.rank} of {rank.ranks} for {payload['value']}")


def other_rank_fails(payload, rank):
    """Leave where the others are, or die there."""
    Path(rank.address.removeprefix("file://")).with_suffix(".left").touch()
    if payload.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    raise InputError("lr is -1 and must be positive; choose another")


def wrong(payload, context):
    """Raise an error of sharpscope's or of Python's, after writing something."""
    (context.output / "half.txt").write_text("half")
    if payload.get("ours"):
        raise InputError("lr is -1 and must be positive; choose another")
    raise ValueError("first line\nsecond line")


def fail_until(payload, context):
    """Fail while a file is missing; leave in the workspace how often it was tried from there."""
    tries = context.workspace / "tries"
    tries.write_text((tries.read_text() if tries.exists() else "") + "x")
    if not os.path.exists(payload["file"]):
        raise RuntimeError(f"try {tries.read_text()}")
    (context.output / "value.txt").write_text("at last")


def die(payload, context):
    """Kill this worker, the first `times` times; a file outside the store counts."""
    print("log tail", file=sys.stderr, flush=True)
    with open(payload["file"], "a") as file:
        file.write("x")
    if os.path.getsize(payload["file"]) <= payload["times"]:
        if "status" in payload:
            os._exit(payload["status"])
        os.kill(os.getpid(), getattr(signal, payload.get("signal", "SIGKILL")))
        time.sleep(60)
    (context.output / "value.txt").write_text("alive")


def fill_disk(payload, context):
    """Meet a full disk, as a library would report it."""
    if payload.get("rust"):
        raise RuntimeError(
            'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space" })'
        )
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as file:
            file.write("too much")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def first_order(orders):
    """Return a stream of orders that holds the first one and never ends."""
    reading, writing = os.pipe()
    os.write(writing, os.read(orders, 65536))
    return reading


def nothing_asked(payload, context):
    """Say interrupted without having been asked."""
    raise Interrupted


def batch(payload, context):
    """Make several results at once, noting which were missing; leave one out, or something beside, when told."""
    for product in context.missing:
        if product != payload.get("forget"):
            (context.output / product / "value.txt").write_text(f"{product} {payload['value']}\n")
    if "beside" in payload:
        (context.output / payload["beside"]).write_text("x")
    if "file" in payload:
        with open(payload["file"], "a") as file:
            file.write(" ".join(context.missing) + "\n")


def note_and_fail(payload, context):
    """Leave a mark outside the store, and fail when as many coordinators are at work as `coordinators` says."""
    with open(payload["file"], "a") as file:
        file.write("x")
    patience = time.monotonic() + 30
    while len(list(context.output.parents[1].glob("coordinators/*"))) < payload["coordinators"]:
        assert time.monotonic() < patience
        time.sleep(0.02)
    raise ValueError("no")


def bulk(payload, context):
    """Write many bytes in pieces, told by the seed, first to the workspace and then as the result."""
    time.sleep(payload.get("seconds", 0))
    piece = bytes([payload["seed"] % 256]) * 4096
    for path in (context.workspace / "bulk", context.output / "bulk"):
        with open(path, "wb") as file:
            for start in range(0, payload["size"], len(piece)):
                file.write(piece[: payload["size"] - start])


def workers_left():
    """Return this process's children, but not the server from which ranks of other tests are forked."""
    import psutil

    children = psutil.Process().children()
    return [child for child in children if "multiprocessing" not in " ".join(child.cmdline())]
