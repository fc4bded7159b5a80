"""SAM in Lightning: one batch of the whole data in double precision is the reference; automatic and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optim.test_refusals import batch, check, loss_of, network, reference
from sharpscope import SAM, Objective, SharpnessMonitor
from sharpscope.errors import InputError

pl = pytest.importorskip("lightning.pytorch")

from lightning.fabric.plugins import MixedPrecision as FabricMixedPrecision  # noqa: E402
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402

from sharpscope.integrations.lightning import SharpnessCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own advice

RHO, LR = 0.5, 0.1


class Automatic(pl.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return SAM(self.parameters(), rho=RHO, lr=LR)


class ByHand(Automatic):
    """The two steps, over the micro-batches of one accumulation."""

    def __init__(self, parts: int = 1, takes_first_step: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.parts, self.takes_first_step = parts, takes_first_step

    def training_step(self, batch: Any, index: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        for step in (optimizer.first_step, optimizer.step) if self.takes_first_step else (optimizer.step,):
            for part in range(self.parts):
                outputs = self.net(batch[0][part :: self.parts])
                loss = nn.functional.cross_entropy(outputs, batch[1][part :: self.parts])
                self.manual_backward(loss / self.parts)
            step()
        optimizer.zero_grad()


def fit(module: Any, folder: Path, batch_size: int = 12, callbacks: Any = (), **options: Any) -> Any:
    data = torch.utils.data.TensorDataset(*batch())
    loader = torch.utils.data.DataLoader(data, batch_size=batch_size)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, loader)
    return trainer


def watching() -> SharpnessCallback:
    objective = lambda module: Objective(module.net, nn.functional.cross_entropy, batch())  # noqa: E731
    return SharpnessCallback(objective, every=1, samples=4)


def fp16() -> Any:
    """Lightning's own plugin of 16-mixed, which a CPU does not get by that name."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))


def fabric_fp16() -> Any:
    return FabricMixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))


CELLS: dict[str, tuple[Any, dict[str, Any], float]] = {
    "automatic": (Automatic, {}, 1e-6),
    "automatic, clipped": (Automatic, {"gradient_clip_val": 100.0}, 1e-6),
    "automatic, double": (Automatic, {"precision": "64-true"}, 1e-12),
    "automatic, bf16-mixed": (Automatic, {"precision": "bf16-mixed"}, 5e-3),
    "by hand": (ByHand, {}, 1e-6),
    "by hand, accumulated": (lambda: ByHand(parts=3), {}, 1e-6),
    "by hand, bf16-mixed": (ByHand, {"precision": "bf16-mixed"}, 5e-3),
    "by hand, 16-mixed": (ByHand, {"plugins": fp16}, 1e-3),
    "by hand, 16-mixed, accumulated": (lambda: ByHand(parts=2), {"plugins": fp16}, 1e-3),
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_step_is_the_reference_s(cell: str, tmp_path: Path) -> None:
    build, options, within = CELLS[cell]
    weights = []
    for callbacks in ((), (watching(),)):
        module = build()
        fit(
            module,
            tmp_path,
            callbacks=callbacks,
            **{k: v() if callable(v) else v for k, v in options.items()},
        )
        expected = reference(network(), RHO, LR)
        for name, p in module.net.named_parameters():
            torch.testing.assert_close(p.detach().double(), expected[name], rtol=0, atol=within)
        weights.append([p.detach().numpy().tobytes() for p in module.net.parameters()])
    assert weights[0] == weights[1]  # to the bit, watched or not
    start = dict(network().named_parameters())
    assert max((expected[n] - start[n]).abs().max() for n in expected) > 0.02


def test_by_hand_at_rate_zero_nothing_moves(tmp_path: Path) -> None:
    class Still(ByHand):
        def configure_optimizers(self) -> Any:
            return SAM(self.parameters(), rho=RHO, lr=0.0)

    module = Still()
    trainer = fit(module, tmp_path, batch_size=4)
    assert trainer.global_step == 3
    for p, q in zip(module.net.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, q)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "automatic, accumulated": (
        Automatic,
        {"accumulate_grad_batches": 2, "batch_size": 6},
        "manual optimization",
    ),
    "automatic, 16-mixed": (Automatic, {"plugins": fp16}, "manual optimization"),
    "by hand without first_step": (lambda: ByHand(takes_first_step=False), {}, "first_step"),
    "bf16-true": (Automatic, {"precision": "bf16-true"}, "autocast"),
}


@pytest.mark.parametrize("cell", REFUSED)
def test_what_is_refused_names_its_remedy(cell: str, tmp_path: Path) -> None:
    build, options, remedy = REFUSED[cell]
    module = build()
    with pytest.raises(InputError, match=remedy):
        fit(module, tmp_path, **{k: v() if callable(v) else v for k, v in options.items()})


FABRIC: dict[str, tuple[dict[str, Any], float]] = {
    "32-true": ({"precision": "32-true"}, 1e-6),
    "64-true": ({"precision": "64-true"}, 1e-6),  # Fabric hands on outputs in float32
    "bf16-mixed": ({"precision": "bf16-mixed"}, 5e-3),
    "16-mixed": ({"plugins": fabric_fp16}, 1e-3),
}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("style", ["closure", "two steps"])
@pytest.mark.parametrize("precision", FABRIC)
def test_in_fabric_as_well(precision: str, style: str, parts: int) -> None:
    """The reference's step, to the same bits whether watched or not."""
    if precision == "16-mixed" and style == "closure":
        pytest.skip("refused: test_fabric_s_scaler_refuses_a_closure")
    options, within = FABRIC[precision]
    fabric = fabric_of(options)
    plain, watched = (in_fabric(fabric, style, parts, watch) for watch in (False, True))
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(p, q)
    check(plain, reference(network(), RHO, LR), within)


def fabric_of(options: dict[str, Any]) -> Any:
    options = {k: v() if callable(v) else v for k, v in options.items()}
    return pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1, **options)


def in_fabric(fabric: Any, style: str, parts: int, watch: bool) -> nn.Module:
    """One step on the common batch, in micro-batches."""
    model = network()
    wrapped, wrapper = fabric.setup(model, SAM(model.parameters(), rho=RHO, lr=LR))
    x, y = batch()
    objective = Objective(wrapped, nn.functional.cross_entropy, (x.to(next(model.parameters()).dtype), y))
    monitor = SharpnessMonitor(objective, every=1, optimizer=wrapper, samples=4)

    def evaluate() -> None:
        wrapper.zero_grad()
        for part in range(parts):
            fabric.backward(loss_of(wrapped, slice(part, None, parts)) / parts)

    if watch:
        monitor.measure()
    if style == "closure":
        wrapper.step(evaluate)
    else:
        evaluate()
        wrapper.first_step()
        evaluate()
        wrapper.step()
    if watch:
        row = monitor.after_step()
        assert row is not None
        assert row["note"] == ""
        assert row["edge"] is not None
    return model


def test_fabric_s_scaler_refuses_a_closure() -> None:
    fabric = fabric_of(FABRIC["16-mixed"][0])
    model = network()
    wrapped, wrapper = fabric.setup(model, SAM(model.parameters(), rho=RHO, lr=LR))
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):  # torch's own refusal
        wrapper.step(lambda: fabric.backward(loss_of(wrapped)))
