"""Saved after any step and continued in a new process, training with SAM ends with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optim import journeys
from optim.journeys import STEPS, WAYS, Journey


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every journey from end to end, saved before each step, and all of them continued by another process."""
    folder = tmp_path_factory.mktemp("journeys")
    for name in WAYS:
        journey = Journey(name, seed=0)
        for step in range(STEPS):
            journey.save(folder / f"{name}.{step}.pt")
            journey.take(journey, step)
        (folder / f"{name}.bits").write_bytes(b"".join(journey.bits()))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, journeys.__file__, str(folder)], check=True, env=environment)
    return folder


@pytest.mark.parametrize("name", WAYS)
def test_continued_after_any_step_the_bits_are_the_same(name: str, folder: Path) -> None:
    whole = (folder / f"{name}.bits").read_bytes()
    for done in range(STEPS):
        assert (folder / f"{name}.{done}.bits").read_bytes() == whole, done
    assert whole != b"".join(Journey(name, seed=0).bits())


def test_the_momentum_is_in_the_file(tmp_path: Path) -> None:
    journey = Journey("clipping", seed=0)
    journey.take(journey, 0)
    state = journey.optimizer.state_dict()
    assert all("momentum_buffer" in entry for entry in state["state"].values())
    assert state["param_groups"][0]["sam_rho"] == 0.1
    assert state["param_groups"][0]["momentum"] == 0.9
