"""A finished store of two small runs of digits and a measure of each, made once and copied for every test."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from in_process import run_study
from sharpscope.sweep import Store

STUDY = """name = "two"
title = "Two small runs"

[run]
data = "digits"
model = { name = "mlp", options = { hidden = [3] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 64
stop = { epochs = 2 }

[grid]
"optimizer.lr" = [0.1, 0.3]

[[measures]]
measure = "gradient_norm"
"""
RUN, ITS_MEASURE = "c827d90949bfe61e", "39c48b450c410cc1"
OTHER_RUN, OTHER_MEASURE = "900d26bef15ef9dc", "94e548caf1e522c4"
"""The results' ids, which follow from the study alone: other ids would make every stored run again."""


def small_store(folder: Path) -> Store:
    """Return a copy of the store at ``folder/store``, the study file ``two.toml`` beside it."""
    shutil.copytree(_made() / "store", folder / "store")
    shutil.copy(_made() / "two.toml", folder)
    return Store(folder / "store", create=False)


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sharpscope-small-store-"))
    (folder / "two.toml").write_text(STUDY)
    run_study(folder / "two.toml", folder / "store")
    return folder
