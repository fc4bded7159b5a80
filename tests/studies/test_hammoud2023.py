"""The shipped hammoud2023 studies: fifty models each, and every training departure of the notebooks, pinned."""

from __future__ import annotations

import os

import pytest

from sharpscope.studies import Plan, load_study, make_plan

STUDIES = ["H1", "H1_as_coded", "H2", "H2_as_coded", "H3", "H3_as_coded"]


def plan(name: str) -> Plan:
    return make_plan(load_study(f"hammoud2023/{name}", "paper"))


@pytest.mark.parametrize("name", STUDIES)
def test_fifty_models_by_both_protocols_at_their_own_rate(name: str) -> None:
    made = plan(name)
    models = 200 if name == "H3" else 50  # fifty of them had left H3 open
    assert len(made.runs) == models
    assert len(made.measures) == 2 * models
    assert {m.label for m in made.measures} == {"as_written", "as_coded"}
    rate = made.runs[0].config.optimizer.lr
    assert all(m.spec["step_size"] == rate for m in made.measures)


def test_training_as_written() -> None:
    fcnn, gat = (plan(name).runs[0].config for name in ("H1", "H3"))
    assert (fcnn.optimizer.lr, fcnn.batch_size, fcnn.stop.epochs) == (0.014, 64, 10)
    assert (fcnn.data.first_row, fcnn.data.targets, fcnn.model.initialisation) == ("kept", "raw", None)
    assert (gat.optimizer.lr, gat.batch_size, gat.stop.min_epochs) == (0.236, 64, 10)
    assert (gat.data.rows, gat.model.initialisation) == ("raw", None)


def test_training_departures_of_the_fully_connected_notebook() -> None:
    config = plan("H1_as_coded").runs[0].config
    assert config.data.first_row == "lost"
    assert config.data.targets == "standardised"
    assert config.model.options == {"activation": "elu", "output_activation": True}
    assert config.model.initialisation == "default"
    assert config.optimizer.lr == 0.102
    assert (config.batch_size, config.steps_per_epoch) == ("full", 53)
    assert config.stop.first_previous_loss == 100


def test_training_of_lenet_and_the_departures_of_its_notebook() -> None:
    written, coded = (plan(name).runs[0].config for name in ("H2", "H2_as_coded"))
    assert (written.model.initialisation, written.optimizer.options) == (None, {})
    assert (coded.model.initialisation, coded.optimizer.options) == ("default", {"weight_decay": 5e-3})
    for config in (written, coded):
        assert (config.data.name, config.model.name, config.data.train_samples) == (
            "fashion_mnist",
            "lenet5",
            None,
        )
        assert (config.optimizer.lr, config.batch_size) == (0.05, 64)
        assert (config.stop.epochs, config.stop.relative_change) == (10, 0.05)


def test_training_departures_of_the_gat_notebook() -> None:
    config = plan("H3_as_coded").runs[0].config
    assert config.model.options["heads"] == 1
    assert config.data.rows == "normalised"
    assert config.model.initialisation == "default"
    assert (config.stop.epochs, config.stop.min_epochs) == (20, 11)


@pytest.mark.skipif("SHARPSCOPE_DATA" not in os.environ, reason="SHARPSCOPE_DATA is not set")
def test_an_epoch_as_coded_is_53_full_steps_through_an_elu_on_the_output() -> None:
    import torch

    from sharpscope.data import load
    from sharpscope.models import build
    from sharpscope.training import train, weight_seed

    config = plan("H1_as_coded").runs[0].config
    once = config.stop.model_copy(update={"epochs": 1})
    config = config.model_copy(update={"stop": once, "dtype": "float64"})  # 53 steps at a high rate
    dataset = load(config.data)
    model = build(config.model, dataset, weight_seed(config))
    assert isinstance(list(model.modules())[-1], torch.nn.ELU)
    twin = build(config.model, dataset, weight_seed(config)).double()
    outcome = train(config, dataset, model)
    dataset = dataset.to("cpu", torch.float64)
    optimizer, losses = torch.optim.SGD(twin.parameters(), lr=0.102), []
    for _ in range(53):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(twin(dataset.train.inputs), dataset.train.targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert outcome.history[0]["epoch_loss"] == pytest.approx(sum(losses) / 53, rel=1e-5)
