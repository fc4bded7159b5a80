from __future__ import annotations

import json
import math

import pandas as pd
import pytest
import torch
from torch import nn

from problems import PROBLEMS
from sharpscope import Estimate, InputError, Objective, measure
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


README_LIST = ["lambda_max", "trace", "average_direction", "worst_case"]


def test_the_list_of_the_readme_works_on_few_samples_and_on_a_batch_loss() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    x, y = torch.randn(30, 4), torch.randint(3, (30,))

    def batch_loss(m: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, int]:
        return nn.functional.cross_entropy(m(batch[0]), batch[1]), len(batch[1])

    few = Objective(model, nn.functional.cross_entropy, (x, y))
    batches = Objective.from_batch_loss(model, [(x[:20], y[:20]), (x[20:], y[20:])], batch_loss)
    tables = [measure(obj, README_LIST) for obj in (few, batches)]
    for table in tables:
        assert table["measure"].tolist() == README_LIST
        assert table["value"].notna().all()
    assert tables[0]["value"].tolist() == pytest.approx(tables[1]["value"].tolist(), rel=0.05)


def test_rows_that_were_computed_are_kept_where_another_measure_is_refused() -> None:
    obj = Objective(nn.Linear(4, 3), nn.functional.cross_entropy, (torch.randn(9, 4), torch.arange(9) % 3))
    with pytest.warns(UserWarning, match="not taken: rescaling_change"):
        table = measure(obj, ["gradient_norm", "rescaling_change"])
    assert table["value"].notna().tolist() == [True, False]
    with pytest.raises(InputError):
        measure(obj, ["rescaling_change"])
    with pytest.raises(InputError):
        measure(obj, ["gradient_norm", "rescaling_change"], strict=True)


def test_a_printed_table_shows_value_and_interval_first_at_any_width(monkeypatch) -> None:
    table = measure(MLP.objective(), ["gradient_norm", "weight_norm"])
    assert list(table.columns[:4]) == ["measure", "value", "low", "high"]
    for columns in ("60", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        lines = str(table).splitlines()
        assert lines[0].split()[:4] == ["measure", "value", "low", "high"]
        assert len(lines) == 3
        assert "..." not in str(table)
    assert "fingerprint" in table.columns
    assert type(table.head(1)) is pd.DataFrame
