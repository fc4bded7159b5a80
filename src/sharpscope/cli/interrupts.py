"""Ctrl-C where Python can make no exception of it: during an import and in a callback."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05
"""Seconds after which a Ctrl-C that came where it cannot be raised is sent again."""

TOGETHER = 0.2
"""Seconds within which two are one: a launcher passes on what the terminal has sent to the process as well."""


@contextmanager
def put_off() -> Iterator[None]:
    """Put off a Ctrl-C, while the block runs, from where it would do harm to where it ends the command.

    Raised in the middle of an import, it leaves half a module behind, becomes an error of the library, or ends the
    process with SIGABRT, for the start of a native library cannot pass an exception on. Raised in a callback, it is
    printed and lost. A second one is raised wherever it comes, so that an import that never ends can be left. Where
    somebody else handles Ctrl-C, or ignores it, as ``nohup`` does, nothing is changed but the callbacks.
    """
    outside = _imports(sys._getframe())
    waiting = sent = False
    first = 0.0

    def at_once_or_later(number: int, frame: FrameType | None) -> None:
        nonlocal waiting, sent, first
        first = first if waiting else time.monotonic()
        second = waiting and not sent and time.monotonic() - first > TOGETHER
        waiting = sent = False
        if _imports(frame) > outside and not second:
            send_later()
        else:
            signal.default_int_handler(number, frame)

    def send_later() -> None:
        nonlocal waiting
        waiting = True  # not sent at once, where it would be raised in the very place that cannot take it
        _thread.start_new_thread(
            wait_and_send, ()
        )  # threading.Thread takes a lock that the main thread may hold

    def wait_and_send() -> None:
        nonlocal sent
        time.sleep(AGAIN)
        if not waiting:
            return
        sent = True
        if os.name == "posix":  # a signal also ends a wait of the main thread
            os.kill(os.getpid(), signal.SIGINT)
        else:  # os.kill would end the process
            _thread.interrupt_main()

    def in_callback(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, KeyboardInterrupt):
            send_later()
        else:
            hook(what)

    hook, sys.unraisablehook = sys.unraisablehook, in_callback
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, at_once_or_later)
    try:
        yield
    finally:
        waiting = False
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = hook


def _imports(frame: FrameType | None) -> int:
    """Count the frames of the import system among this one and its callers."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count
