"""A module of the user's own for a test: a file of a new name in the current folder."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


def own_module(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the name of a module with this source, which nothing has imported."""
    name = f"own_{uuid.uuid4().hex}"
    (folder / f"{name}.py").write_text(source)
    monkeypatch.chdir(folder)
    yield name
    sys.modules.pop(name, None)
