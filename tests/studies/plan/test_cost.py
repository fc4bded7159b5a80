"""The estimate of what a study costs: how it grows with what is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpscope.studies import load_study, make_joint_plan
from sharpscope.studies.plan.cost import Calibration, cost_of

STUDY = """
name = "small"
[run]
data = {{ name = "cifar10", train_samples = {samples} }}
model = {{ name = "mlp", options = {{ hidden = [8] }} }}
optimizer = {{ name = "{optimizer}", lr = 0.1 }}
batch_size = 50
stop = {{ epochs = {epochs} }}
[grid]
seed = [0, 1]
{rest}
"""


class Fixed(Calibration):
    """A machine on which a gradient takes a second and a hundredth of one per sample."""

    def gradient(self, config, samples: int) -> float:
        return 1.0 + samples / 100


def cost(tmp_path: Path, rest: str = "", samples: int = 100, optimizer: str = "sgd", epochs: int = 3):
    (tmp_path / "s.toml").write_text(
        STUDY.format(rest=rest, samples=samples, optimizer=optimizer, epochs=epochs)
    )
    return cost_of(make_joint_plan([load_study(tmp_path / "s.toml")]), Fixed())


def test_training_is_steps_and_an_evaluation_an_epoch(tmp_path: Path) -> None:
    evaluation = (1 + (100 + 10_000) / 100) / 3
    plain = cost(tmp_path)
    assert plain.runs == 2
    assert plain.training == pytest.approx(2 * 3 * (2 * 1.5 + evaluation))
    assert cost(tmp_path, epochs=6).training == pytest.approx(2 * plain.training)
    assert cost(tmp_path, optimizer="sam").training == pytest.approx(2 * 3 * (4 * 1.5 + evaluation))
    assert plain.measuring == 0


@pytest.mark.parametrize(
    ("rest", "gradients"),
    [
        ('[[measures]]\nmeasure = "gradient_norm"', 1),
        ('[[measures]]\nmeasure = "average_direction"\nsamples = 30', 10),
        ('[[measures]]\nmeasure = "worst_case"\nbatch_size = "none"\nsteps = 4', 5),
        ('[[tracks]]\nmeasure = "gradient_norm"', 5),
        ('[[audits]]\nname = "a"\nmeasures = ["gradient_norm"]\nrepetitions = 2', 3),
        ('[[surfaces]]\nname = "s"\npoints = 3', 6),
    ],
)
def test_measures_and_views_are_counted_in_gradients(tmp_path: Path, rest: str, gradients: float) -> None:
    assert cost(tmp_path, rest).measuring == pytest.approx(
        2 * gradients * 2.0
    )  # two runs, two seconds a gradient


def test_a_calibration_times_each_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpscope.studies.plan import cost as module

    timed = []
    original = module._timed

    def counted(config):
        timed.append(config)
        return original(config)

    monkeypatch.setattr(module, "_timed", counted)
    (tmp_path / "s.toml").write_text(STUDY.format(rest="", samples=100, optimizer="sgd", epochs=2))
    found = cost_of(make_joint_plan([load_study(tmp_path / "s.toml")]))
    assert found.seconds > 0
    assert len(timed) == 1


def test_the_command_lists_papers_experiments_and_claims(cli) -> None:
    def run(*arguments: str) -> str:
        code, out, _ = cli("studies", *arguments)
        assert code == 0
        return out

    listed = {one["name"]: one for one in json.loads(run("--no-cost", "--json"))}
    assert len(listed["kaur2022"]["experiments"]) == 11
    assert list(listed["kaur2022"]["scales"]) == ["smoke", "laptop", "paper"]
    assert listed["patriarca2024"]["scales"]["paper"]["runs"] == 144 + 84 - 12  # they share twelve
    shown = run("patriarca2024/fig1b", "--no-cost")
    assert "P4: Sharpness falls" in shown
    assert "laptop: 30 runs. Laptop:" in shown
    assert "P1, P2, P3" in run("patriarca2024", "--no-cost")
    (described,) = json.loads(run("hammoud2023/H0", "--json"))
    assert described["scales"]["smoke"]["seconds"] > 0
