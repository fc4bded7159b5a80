"""The file in which a store keeps what it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.serialization import readable_json


def study_text(study: Mapping[str, Any]) -> str:
    """Return what the file holds of a study: the same text for the same study."""
    return readable_json(study)


def read_study(path: Path) -> dict[str, Any] | None:
    """Return what a study's file holds, None where there is none; `StoreError` when it is damaged."""
    if not path.exists():
        return None
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        study = None
    if not isinstance(study, dict):
        raise StoreError(f"{path} is damaged; remove it and run the study again, which keeps every result")
    return study
