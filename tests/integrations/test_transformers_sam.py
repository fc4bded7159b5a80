"""SAM in a Hugging Face Trainer and in accelerate: the reference's step, or a refusal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optim.test_refusals import batch, check, loss_of, network, reference
from sharpscope import GSAM, SAM, LookSAM, Objective
from sharpscope.errors import InputError

accelerate = pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

from sharpscope.integrations.transformers import SAMTrainer, SharpnessCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

RHO, LR = 0.5, 0.1


class Model(nn.Module):
    """The common test network in the shape that Trainer expects."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": nn.functional.cross_entropy(self.net(x), labels)}


def rows() -> list[dict[str, torch.Tensor]]:
    return [{"x": x, "labels": y} for x, y in zip(*batch(), strict=True)]


def fit(
    folder: Path, kind: Any = SAM, trainer: Any = None, callbacks: Any = (), steps: int = 1, **options: Any
) -> Model:
    args = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        lr_scheduler_type="constant",
        remove_unused_columns=False,
        **{"per_device_train_batch_size": 12, "max_grad_norm": 100.0, **options},
    )
    model = Model()
    optimizer = kind(model.parameters(), lr=LR, rho=RHO)
    (trainer or SAMTrainer)(
        model, args, train_dataset=rows(), optimizers=(optimizer, None), callbacks=list(callbacks)
    ).train()
    return model


def watching() -> SharpnessCallback:
    objective = lambda model: Objective(model.net, nn.functional.cross_entropy, batch())  # noqa: E731
    return SharpnessCallback(objective, every=1, samples=4)


CELLS: dict[str, tuple[dict[str, Any], float]] = {
    "whole batch": ({}, 1e-6),
    "accumulated": ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, 1e-6),
    "not clipped": ({"max_grad_norm": 0.0}, 1e-6),
    "bf16": ({"bf16": True}, 5e-3),
    "bf16, accumulated": (
        {"bf16": True, "per_device_train_batch_size": 6, "gradient_accumulation_steps": 2},
        5e-3,
    ),
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_trainer_s_step_is_the_reference_s(cell: str, tmp_path: Path) -> None:
    options, within = CELLS[cell]
    weights = []
    for callbacks in ((), (watching(),)):
        model = fit(tmp_path, callbacks=callbacks, **options)
        expected = reference(network(), RHO, LR)
        for name, p in model.net.named_parameters():
            torch.testing.assert_close(p.detach().double(), expected[name], rtol=0, atol=within)
        weights.append([p.detach().numpy().tobytes() for p in model.net.parameters()])
    assert weights[0] == weights[1]  # to the bit, watched or not


def test_accumulation_does_not_change_the_steps(tmp_path: Path) -> None:
    for kind in (SAM, GSAM, LookSAM):
        whole = fit(tmp_path, kind, steps=4)
        parts = fit(tmp_path, kind, steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=3)
        for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def test_other_trainers_and_optimizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="first_step"):
        fit(tmp_path, trainer=transformers.Trainer)
    with pytest.raises(InputError, match="SAMTrainer steps with SAM"):
        fit(tmp_path, kind=lambda p, lr, rho: torch.optim.SGD(p, lr=lr))


def test_an_evaluation_that_fails_leaves_the_weights(tmp_path: Path) -> None:
    class Fails(SAMTrainer):
        calls = 0

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            Fails.calls += 1
            if Fails.calls == 2:
                Fails.model_then = copy.deepcopy(args[0])
                Fails.seen = args[0]
                raise KeyboardInterrupt
            return super().compute_loss(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, trainer=Fails)
    assert not torch.equal(Fails.model_then.net[0].weight, network()[0].weight)
    assert torch.equal(Fails.seen.net[0].weight, network()[0].weight)


# -- accelerate ----------------------------------------------------------------------------------------


@pytest.fixture
def accelerator() -> Iterator[Any]:
    """A maker of accelerators whose state, common to all of a process, ends with the test."""
    state = accelerate.state

    def reset() -> None:
        state.AcceleratorState._reset_state(True)
        state.GradientState._reset_state()

    reset()
    yield lambda **options: accelerate.Accelerator(cpu=True, **options)
    reset()


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("style", ["closure", "sequence", "two steps", "two steps, accumulated"])
def test_accelerate(style: str, precision: str, accelerator: Any) -> None:
    maker = accelerator(mixed_precision=precision)
    module = network()
    model, optimizer = maker.prepare(module, SAM(module.parameters(), rho=RHO, lr=LR))
    inner = optimizer.optimizer  # the two steps are SAM's own
    parts = [slice(0, 6), slice(6, 12)]

    def evaluate(part: slice = slice(None), share: float = 1.0) -> torch.Tensor:
        x, y = batch()
        with maker.autocast():
            loss = nn.functional.cross_entropy(model(x[part]), y[part]) * share
        maker.backward(loss)
        return loss

    def closure(part: slice = slice(None), share: float = 1.0) -> torch.Tensor:
        optimizer.zero_grad()
        return evaluate(part, share)

    if style == "closure":
        optimizer.step(closure)
    elif style == "sequence":  # an ε for each: by hand below
        optimizer.step([lambda part=part: closure(part, 0.5) for part in parts])
    else:
        for step in (inner.first_step, optimizer.step):
            for number, part in enumerate(parts if "accumulated" in style else [slice(None)]):
                with maker.no_sync(model) if number == 0 and "accumulated" in style else nullcontext():
                    evaluate(part, 0.5 if "accumulated" in style else 1.0)
            step()
    expected = reference(network(), RHO, LR)
    if style == "sequence":
        each = [reference(network(), RHO, LR, loss=lambda m, part=part: loss_of(m, part)) for part in parts]
        expected = {n: (each[0][n] + each[1][n]) / 2 for n in each[0]}
    check(module, expected, within=1e-6 if precision == "no" else 5e-3)


def test_a_closure_inside_accumulate_is_refused(accelerator: Any) -> None:
    maker = accelerator(gradient_accumulation_steps=2)
    module = network()
    model, optimizer = maker.prepare(module, SAM(module.parameters(), rho=RHO, lr=LR))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        maker.backward(loss)
        return loss

    with maker.accumulate(model):
        optimizer.step(closure)  # accelerate does nothing yet
    with pytest.raises(InputError, match="gradient_accumulation_steps=2"), maker.accumulate(model):
        optimizer.step(closure)
