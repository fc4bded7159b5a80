from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from sharpscope.training import ScheduleConfig
from sharpscope.training.schedules import learning_rate


def rates(schedule: ScheduleConfig, epochs: int, lr: float = 0.1) -> list[float]:
    return [learning_rate(schedule, lr, epoch, epochs) for epoch in range(1, epochs + 1)]


def test_resnet_of_jastrzebski2018_is_cut_tenfold_at_its_milestones() -> None:
    schedule = ScheduleConfig(kind="multistep", milestones=(60, 100, 140, 180), gamma=0.1)
    found = rates(schedule, 200)
    assert found[:60] == [0.1] * 60  # epochs 1 to 60
    assert found[60] == pytest.approx(0.01)
    assert found[199] == pytest.approx(1e-5)


def test_vgg_of_jastrzebski2018_is_halved_every_25_epochs() -> None:
    found = rates(ScheduleConfig(kind="every", n=25, gamma=0.5), 60)
    assert found[24] == 0.1
    assert found[25] == found[49] == 0.05
    assert found[50] == 0.025


@pytest.mark.parametrize(
    ("schedule", "peer"),
    [
        (
            ScheduleConfig(kind="multistep", milestones=(2, 5), gamma=0.3),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.3),
        ),
        (ScheduleConfig(kind="every", n=3, gamma=0.3), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.3)),
        (
            ScheduleConfig(kind="cosine", min_lr=0.01),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8, 0.01),
        ),
    ],
)
def test_rates_agree_with_torch(schedule: ScheduleConfig, peer: object) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = peer(optimizer)  # type: ignore[operator]
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(schedule, 8) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"rise": 0.5, "start_factor": 0.1, "end_factor": 0.02}])
@pytest.mark.parametrize(("epochs", "steps"), [(4, 7), (3, 1), (2, 2)])
def test_one_cycle_agrees_with_torch_step_by_step(options: dict[str, float], epochs: int, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    start, end = options.get("start_factor", 0.04), options.get("end_factor", 4e-6)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        0.1,
        total_steps=epochs * steps,
        pct_start=options.get("rise", 0.3),
        div_factor=1 / start,
        final_div_factor=start / end,
        cycle_momentum=False,
    )
    schedule = ScheduleConfig.model_validate({"kind": "one_cycle", **options})
    for epoch in range(1, epochs + 1):
        for step in range(steps):
            expected = optimizer.param_groups[0]["lr"]
            assert learning_rate(schedule, 0.1, epoch, epochs, step, steps) == pytest.approx(
                expected, rel=1e-9
            )
            optimizer.step()
            if (epoch, step) != (epochs, steps - 1):
                scheduler.step()
    assert learning_rate(schedule, 0.1, epochs + 3, epochs, 0, steps) == pytest.approx(0.1 * end)


def test_warm_up_is_a_straight_line_below_any_schedule() -> None:
    plain = ScheduleConfig(kind="every", n=2, gamma=0.5)
    warm = plain.model_copy(update={"warmup": 3})
    found = [learning_rate(warm, 0.6, epoch, 9, step, 2) for epoch in (1, 2, 3, 4) for step in (0, 1)]
    # 0.6 · (1 … 6)/6, halved from the third epoch on
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.25, 0.3, 0.3, 0.3])


def test_keys_that_came_later_are_left_out_while_unset() -> None:
    assert list(ScheduleConfig().model_dump()) == ["kind", "milestones", "gamma", "n", "epochs", "min_lr"]
    assert ScheduleConfig(warmup=2).model_dump()["warmup"] == 2


def test_cosine_stays_at_its_floor_after_its_period() -> None:
    found = rates(ScheduleConfig(kind="cosine", epochs=2, min_lr=0.02), 5)
    assert found == pytest.approx([0.1, 0.06, 0.02, 0.02, 0.02])
    assert rates(ScheduleConfig(kind="cosine"), 3)[2] == pytest.approx(0.05 * (1 + math.cos(2 * math.pi / 3)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "constant", "gamma": 0.1},
        {"kind": "multistep", "milestones": [3]},
        {"kind": "multistep", "milestones": [3, 3], "gamma": 0.1},
        {"kind": "multistep", "milestones": [], "gamma": 0.1},
        {"kind": "multistep", "milestones": [0], "gamma": 0.1},
        {"kind": "every", "n": 0, "gamma": 0.1},
        {"kind": "every", "n": 5, "gamma": float("nan")},
        {"kind": "cosine", "min_lr": -0.1},
        {"kind": "linear"},
        {"kind": "constant", "warmup": 0},
        {"kind": "one_cycle", "warmup": 2},
        {"kind": "one_cycle", "rise": 1.0},
        {"kind": "one_cycle", "min_lr": 0.1},
        {"kind": "cosine", "rise": 0.3},
    ],
)
def test_incomplete_or_idle_keys_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ScheduleConfig.model_validate(wrong)
