"""Who owns a temporary folder: a tag that names one process, and whether that process still lives.

A process number alone is not enough, since numbers are used again; with the time the process started it is unique.
"""

from __future__ import annotations

import functools
import os
import re
import socket
from pathlib import Path

import psutil

_MACHINES_OWN = 0xEFFFFFFC  # PROC_PID_INIT_INO of Linux's <linux/proc_ns.h>


def own_tag() -> str:
    """Return this process's tag, ``host-pid-start``: letters, digits, '.', '_' and '-' only."""
    return _tag(os.getpid())


def of_this_machine(tag: str) -> bool:
    """Return whether a tag is that of a process of this machine, which alone can tell whether it lives."""
    return tag.rsplit("-", 2)[0] == _host() and tag.count("-") >= 2


def may_live(tag: str) -> bool:
    """Return whether the process behind a tag may still be writing.

    False only for a process of this machine that is surely gone: no process has its number, another one does,
    or it is a zombie (dead, waiting to be counted by its parent). True for a process of another
    machine, which may share the disk, and for a text that is no tag.
    """
    try:
        host, pid, start = tag.rsplit("-", 2)
        number = int(pid)
    except ValueError:
        return True
    return host != _host() or _started(number) == start


@functools.cache  # per process number, so that a forked child gets a tag of its own
def _tag(pid: int) -> str:
    return f"{_host()}-{pid}-{_started(pid) or 0}"


@functools.cache
def _host() -> str:
    """Return the machine's name, and after a '.' its process numbers' name space where that is not the machine's own.

    Two containers may share a name and a disk while each counts its processes by itself.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "localhost"
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return name
    return name if space == _MACHINES_OWN else f"{name}.{space}"


def _started(pid: int) -> str | None:
    """Return when a process started, in a unit of the platform's; None for a dead one or a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        # Clock ticks since the machine started. psutil adds them to the wall clock, and setting the clock
        # would then make every living process look like another one.
        try:
            after_name = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if after_name[0] in "ZXx" else after_name[19]
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(int(process.create_time() * 1000))
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return "unreadable"
