"""What tests of several packages share: the command line, called in this process, where its tasks run too."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from in_process import InThisProcess
from sharpscope.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line and its tasks in this process; return (exit status, stdout, stderr)."""
    monkeypatch.setattr("sharpscope.sweep.LocalExecutor", InThisProcess)
    monkeypatch.delenv("COLUMNS", raising=False)  # tables are as wide as they are, wherever the tests run

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sharpscope", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call
