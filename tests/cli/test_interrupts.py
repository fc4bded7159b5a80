"""A Ctrl-C during an import, in a callback, and where somebody else handles it."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharpscope.cli.interrupts import put_off

STOPPED_HALFWAY = """import signal
class Known:
    def __init_subclass__(cls):
        signal.raise_signal(signal.SIGINT)
class Late(Known): pass
whole = True
"""


@pytest.fixture(autouse=True)
def _as_from_a_terminal() -> Iterator[None]:
    """Tests that are started in the background of a shell ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "stopped_halfway.py").write_text(STOPPED_HALFWAY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stopped_halfway", raising=False)
    return "stopped_halfway"


def import_and_wait(name: str, reached: list[bool]) -> None:
    reached.append(importlib.import_module(name).whole)
    time.sleep(5)


def test_an_import_ends_before_the_stop_is_raised(halfway: str) -> None:
    reached: list[bool] = []
    with put_off(), pytest.raises(KeyboardInterrupt):
        import_and_wait(halfway, reached)
    assert reached == [True]


def test_a_stop_in_an_import_of_an_import_waits_for_both(halfway: str, tmp_path: Path) -> None:
    (tmp_path / "outer_of_two.py").write_text(
        f"import time\nimport {halfway}\nend = time.monotonic() + .3\n"
        "while time.monotonic() < end: pass\nwhole = True"
    )
    reached: list[bool] = []
    with put_off(), pytest.raises(KeyboardInterrupt):
        import_and_wait("outer_of_two", reached)
    assert reached == [True]


def test_an_import_that_never_ends_is_left_by_a_second_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_ends.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(.3)\n"
        "signal.raise_signal(signal.SIGINT)\nwhile True: time.sleep(.01)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with put_off(), pytest.raises(KeyboardInterrupt):
        importlib.import_module("never_ends")
    time.sleep(0.2)  # and nothing is sent after that


def test_a_stop_that_a_launcher_passes_on_too_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stopped_twice.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nsignal.raise_signal(signal.SIGINT)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reached: list[bool] = []
    with put_off(), pytest.raises(KeyboardInterrupt):
        import_and_wait("stopped_twice", reached)
    assert reached == [True]


def test_a_stop_that_waits_is_not_sent_once_the_command_has_ended(halfway: str) -> None:
    with put_off():
        importlib.import_module(halfway)
    time.sleep(0.2)


def test_a_stop_outside_imports_is_raised_at_once() -> None:
    with put_off(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_imports_around_the_command_count_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calls_the_command.py").write_text(
        "import signal\nfrom sharpscope.cli.interrupts import put_off\nstopped = False\ntry:\n"
        "    with put_off():\n        signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    stopped = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("calls_the_command").stopped


def test_a_stop_in_a_callback_is_sent_again() -> None:
    class Callback:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    held = [Callback()]
    with put_off(), pytest.raises(KeyboardInterrupt):
        time.sleep(5 if held.clear() is None else 0)


def test_the_handlers_are_those_from_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with put_off():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_ctrl_c_that_is_ignored_or_kills_stays_so(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with put_off():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_run_it_without_handlers() -> None:
    seen: list[object] = []

    def run() -> None:
        with put_off():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
