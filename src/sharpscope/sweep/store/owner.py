"""Who owns a temporary folder: a tag that names one process, and whether that process still lives.

A process number alone is not enough, since numbers are used again; with the time the process started it is unique.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from pathlib import Path

import psutil

_TAG = re.compile(r"(.+)\.([0-9a-f]{6})-([0-9]{1,10})-([0-9a-z]+)\Z")
_MACHINES_OWN = 0xEFFFFFFC  # PROC_PID_INIT_INO of Linux's <linux/proc_ns.h>


def own_tag() -> str:
    """Return this process's tag, ``host.machine-pid-start``: letters, digits, '.', '_' and '-' only."""
    return _tag(os.getpid())


def of_this_machine(tag: str) -> bool:
    """Return whether a tag is that of a process of this machine, which alone can tell whether it lives."""
    return place_of(tag) is not None and tag.rsplit("-", 2)[0] == _host()


def may_live(tag: str) -> bool:
    """Return whether the process behind a tag may still be writing.

    False only for a process of this machine that is surely gone: no process has its number, another one does,
    or it is a zombie (dead, waiting to be counted by its parent). True for a process of another
    machine, which may share the disk, and for a text that is no tag.
    """
    if not of_this_machine(tag):
        return True
    _, pid, start = tag.rsplit("-", 2)
    return _started(int(pid)) == start


@functools.cache  # per process number, so that a forked child gets a tag of its own
def _tag(pid: int) -> str:
    return f"{_host()}-{pid}-{_started(pid) or 0}"


def place_of(tag: str) -> tuple[str, int] | None:
    """Return the host's name and the process number of a tag, None for a text that is no tag.

    >>> place_of("node-7.a81f3c-4711-98765")
    ('node-7', 4711)
    """
    match = _TAG.match(tag)
    return None if match is None else (match[1], int(match[3]))


@functools.cache
def _host() -> str:
    """Return this machine's name, '.', and six digits that tell it from another machine of that name.

    The digits are a hash of the machine's id. In a container, whose id may be that of its image, they are a hash of
    the kernel's boot id and the name space of process numbers: two containers may share a name and a disk while each
    counts its processes by itself.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "localhost"
    space = _process_space()
    identity = _first_line("/etc/machine-id") if space in (None, _MACHINES_OWN) else None
    identity = identity or f"{_first_line('/proc/sys/kernel/random/boot_id')} {space}"
    return f"{name}.{hashlib.sha256(identity.encode()).hexdigest()[:6]}"


def _process_space() -> int | None:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


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
