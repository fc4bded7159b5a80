from __future__ import annotations

import json
import math

import pytest

from problems import PROBLEMS
from sharpscope import Estimate, InputError, measure
from sharpscope.measures import row, take

MLP, TANH = (next(p for p in PROBLEMS if p.name == name) for name in ("mlp relu", "mlp tanh"))


def test_a_row_is_flat_and_has_the_interval_of_its_estimate() -> None:
    random = Estimate.of_samples("m", [1.0, 2.0, 4.0], {"losses": 3, "seconds": 0.5}, {"b": 1, "a": 2}, "f")
    found = row("label", random)
    assert (found["low"], found["high"]) == random.interval(0.95)
    assert (found["measure"], found["definition"], found["samples"]) == ("label", "m", 3)
    assert (found["losses"], found["gradients"], found["seconds"]) == (3.0, 0.0, 0.5)
    assert found["protocol"] == '{"a": 2, "b": 1}'
    assert row("x", Estimate("m", 2.0, error=0.25))["low"] == 1.75


def test_the_tables_seed_applies_unless_a_spec_has_its_own() -> None:
    obj = MLP.objective()
    spec = {"measure": "average_direction", "samples": 4}
    assert take(obj, spec, 5).protocol["seed"] == 5
    assert take(obj, {**spec, "seed": 2}, 5).protocol["seed"] == 2
    assert take(obj, spec, 5).value != take(obj, spec, 6).value


def test_a_measure_that_is_not_allowed_raises_or_says_why() -> None:
    obj = TANH.objective()
    with pytest.raises(InputError, match="nothing to rescale"):
        measure(obj, ["rescaling_change"])
    found = measure(obj, ["gradient_norm", "rescaling_change"], strict=False)
    assert found["value"].notna().tolist() == [True, False]
    assert math.isnan(found["value"][1])
    assert "nothing to rescale" in json.loads(found["protocol"][1])["not taken"]
