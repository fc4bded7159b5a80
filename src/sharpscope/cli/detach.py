"""``sharpscope run --detach`` and ``sharpscope attach``: a sweep that needs no terminal, and what it prints."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import typer

from sharpscope.cli.options import StoreFolder
from sharpscope.cli.streams import say
from sharpscope.errors import InputError

FOLDER = ".detached"
"""The folder of a store that holds what detached commands print: ``<host>-<process>.log``."""

# Ends what the command prints with its exit status.
_COMMAND = (
    "import sys; from sharpscope.cli.app import status_of_call; status = status_of_call(); "
    "print(f'exit status {status}', flush=True); sys.exit(status)"
)
_LOOK = 0.5  # seconds between looks at the log
_END = re.compile(r"exit status (\d+)\n\Z")


def detach(store: Path, words: list[str]) -> tuple[int, Path]:
    """Start a command of ours in a session of its own, its output in the store; return its process and log.

    A terminal that is closed sends it no signal. It works in the current folder with the present import path.
    """
    folder = store / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{socket.gethostname()}-new.log"
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    with open(new, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        named = folder / f"{socket.gethostname()}-{process.pid}.log"
        os.replace(new, named)
    return process.pid, named


def attach(store: StoreFolder) -> None:
    """Follow the sweep that 'run --detach' started last: print what it prints, and end as it ends.

    Ctrl-C ends the following and leaves the sweep alone. Stop the sweep itself with the kill command that 'run
    --detach' printed: its tasks save, and the same run goes on from there.
    """
    from sharpscope.sweep import Store

    root = Store(store, create=False).root
    logs = sorted(root.glob(f"{FOLDER}/*-[0-9]*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        raise InputError(f"no sweep was detached into the store {root}; start one with run --detach")
    ended = False
    with open(logs[-1], encoding="utf-8", errors="replace", newline="") as log:
        last = ""
        while True:
            text = log.read()
            last = (last + text)[-200:]
            if (end := _END.search(last)) is not None:
                say((text[: -len(end.group())] if text.endswith(end.group()) else "").rstrip("\n"))
                raise typer.Exit(int(end.group(1)))
            if text:
                say(text.rstrip("\n"))
            elif ended:
                raise InputError(
                    f"the sweep died without a last word, see {logs[-1]}; the same run goes on from what it saved"
                )
            else:
                ended = not _lives(logs[-1], root)  # and once more, for what it wrote before its end
                time.sleep(_LOOK)


def _lives(log: Path, root: Path) -> bool:
    """Return whether the command that writes a log still runs."""
    import psutil

    from sharpscope.sweep import at_work

    host, _, number = log.stem.rpartition("-")
    if host != socket.gethostname():
        return bool(at_work(root))
    try:
        status: str = psutil.Process(int(number)).status()
    except psutil.NoSuchProcess:
        return False
    return status != "zombie"
