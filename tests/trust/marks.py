"""A module that leaves a mark when it is imported or called, and a study that names it."""

from __future__ import annotations

import sys
from pathlib import Path

EVIL = """
import pathlib
pathlib.Path("ran").touch()
from os import system
def make(**options):
    pathlib.Path("called").touch()
class NoModule:
    pass
"""


def untouched(folder: Path) -> bool:
    return "evil" not in sys.modules and not (folder / "ran").exists() and not (folder / "called").exists()


STUDY = """
name = "received"
[run]
data = "digits"
model = {{ name = "{model}", options = {{ {options} }} }}
optimizer = {{ name = "sgd", lr = 0.1 }}
batch_size = 64
stop = {{ epochs = 1 }}
"""
