"""A Lightning training with the callback and without it: the same bits, and the numbers where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from sharpscope import SAM, Objective

pl = pytest.importorskip("lightning.pytorch")

from sharpscope.integrations.lightning import SharpnessCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own advice on workers, logging and so on

cross_entropy = nn.functional.cross_entropy


class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self, sam: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3)
        )
        self.sam = sam

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        if self.sam:
            return SAM(self.parameters(), torch.optim.SGD, rho=0.1, lr=0.1, model=self)
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def data(n: int = 44) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(5)
    return torch.randn(n, 4, generator=draws), torch.randint(0, 3, (n,), generator=draws)


def callback(path: Path | None = None, every: int = 3) -> SharpnessCallback:
    return SharpnessCallback(
        lambda module: Objective(module, cross_entropy, data(20)), every=every, between=0, path=path
    )


def fit(module: Module, *callbacks: Any, folder: Path, epochs: int = 2, **options: Any) -> Any:
    torch.manual_seed(1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=8, shuffle=True)
    resume = options.pop("ckpt_path", None)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "enable_checkpointing": False, **options},
    )
    trainer.fit(module, loader, ckpt_path=resume)
    return trainer


def bits(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_is_the_same_to_the_bit(accumulate: int, tmp_path: Path) -> None:
    plain, watched = Module(), Module()
    fit(plain, folder=tmp_path, accumulate_grad_batches=accumulate)
    watching = callback(tmp_path / "s.parquet", every=1)
    trainer = fit(watched, watching, folder=tmp_path, accumulate_grad_batches=accumulate)
    assert bits(plain) == bits(watched)
    steps = pd.read_parquet(tmp_path / "s.parquet")["step"].tolist()
    assert steps == list(range(1, trainer.global_step + 1))  # batches of one accumulation count once
    assert len(steps) == 12 // accumulate


def test_numbers_reach_the_loggers_and_follow_the_rate(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    watching = callback()
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    fit(Module(), watching, folder=tmp_path, logger=logger)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(logger.log_dir)
    events.Reload()
    logged = {s.step: s.value for s in events.Scalars("sharpness/lambda_max")}
    assert logged == {row["step"]: pytest.approx(row["lambda_max"]) for row in watching.monitor.rows}
    assert [row["two_over_lr"] for row in watching.monitor.rows] == [
        20.0,
        40.0,
        40.0,
        80.0,
    ]  # of the next step


def test_a_resumed_fit_goes_on_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    trainer = fit(Module(), callback(path), folder=tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    fit(Module(), callback(path), folder=tmp_path, ckpt_path=tmp_path / "one.ckpt")
    assert pd.read_parquet(path)["step"].tolist() == [3, 6, 9, 12]


def test_sam_in_lightning(tmp_path: Path) -> None:
    """Automatic optimization hands SAM a closure; resumed after an epoch it ends with the same bits."""
    whole, first, second = Module(sam=True), Module(sam=True), Module(sam=True)
    ordered: dict[str, Any] = {"folder": tmp_path}
    fit(whole, epochs=1, **ordered)
    assert int(whole.net[1].num_batches_tracked) == 6
    trainer = fit(first, epochs=1, **ordered)
    assert bits(first) == bits(whole)
    trainer.save_checkpoint(tmp_path / "sam.ckpt")
    fit(second, ckpt_path=tmp_path / "sam.ckpt", **ordered)
    assert int(second.net[1].num_batches_tracked) == 12
