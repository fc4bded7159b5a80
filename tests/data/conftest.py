"""Every test here has a cache of its own and no data folder unless it sets one."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SHARPSCOPE_DATA", raising=False)
