"""A Hugging Face Trainer with the callback and without it: the same bits, and the numbers where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sharpscope import Objective

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

from sharpscope.integrations.transformers import SharpnessCallback  # noqa: E402


def model() -> Any:
    """A BERT of 2 000 parameters, made here: nothing is downloaded."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config)


class Sentences(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 36

    def __getitem__(self, index: int) -> Any:
        draws = torch.Generator().manual_seed(index)
        ids = torch.randint(0, 20, (6,), generator=draws)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.sum() % 3}


def objective(module: Any) -> Objective:
    rows = [Sentences()[i] for i in range(10)]
    batches = [{key: torch.stack([row[key] for row in rows]) for key in rows[0]}]
    return Objective.from_batch_loss(
        module, batches, lambda m, batch: (m(**batch).loss, len(batch["labels"]))
    )


def fit(callbacks: list[Any], folder: Path, **options: Any) -> Any:
    args = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=6,
        learning_rate=0.01,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )
    return transformers.Trainer(model(), args, train_dataset=Sentences(), callbacks=callbacks)


def bits(module: Any) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_is_the_same_to_the_bit(accumulation: int, tmp_path: Path) -> None:
    watching = SharpnessCallback(objective, every=2, path=tmp_path / "s.parquet", samples=4, max_products=30)
    trainers = []
    for callbacks in ([], [watching]):
        trainers.append(fit(callbacks, tmp_path, gradient_accumulation_steps=accumulation))  # which seeds
        trainers[-1].train()
    plain, watched = trainers
    assert bits(plain.model) == bits(watched.model)
    table = pd.read_parquet(tmp_path / "s.parquet")
    assert table["step"].tolist() == list(range(2, 12 // accumulation + 1, 2))
    assert (table["lambda_max"] > 0).all()
    told = [entry for entry in watched.state.log_history if "sharpness/lambda_max" in entry]
    assert [entry["sharpness/lambda_max"] for entry in told] == table["lambda_max"].tolist()
    assert table["two_over_lr"].dropna().is_monotonic_increasing  # the Trainer's rate falls, to 0 at the end
    assert table["two_over_lr"][0] > 2 / 0.01


def test_a_resumed_training_goes_on_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    choices: dict[str, Any] = {"every": 2, "path": path, "samples": 4, "max_products": 20}
    fit([SharpnessCallback(objective, **choices)], tmp_path, save_strategy="epoch").train()
    whole = pd.read_parquet(path)
    fit([SharpnessCallback(objective, **choices)], tmp_path).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-6")
    )
    resumed = pd.read_parquet(path)
    assert resumed["step"].tolist() == whole["step"].tolist() == [2, 4, 6, 8, 10, 12]
    assert resumed["lambda_max"].tolist() == pytest.approx(whole["lambda_max"].tolist(), rel=0.02)


class Reporter(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Stands in for what report_to brings along."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append({"at": state.global_step, **logs})


def test_reporters_get_the_numbers_wherever_they_stand(tmp_path: Path) -> None:
    before, after = Reporter(), Reporter()
    watching = SharpnessCallback(objective, every=4, samples=4, max_products=30)
    trainer = fit([before, watching, after], tmp_path, logging_steps=3)
    trainer.train()
    for reporter in (before, after):
        sharp = [log for log in reporter.logs if "sharpness/lambda_max" in log]
        rows = watching.monitor.rows
        assert [log["at"] for log in sharp] == [row["step"] for row in rows] == [4, 8, 12]
        assert [log["sharpness/lambda_max"] for log in sharp] == [row["lambda_max"] for row in rows]
        assert [log["sharpness/edge"] for log in sharp[:2]] == [row["edge"] for row in rows[:2]]
        assert [log["at"] for log in reporter.logs if "loss" in log] == [
            3,
            6,
            9,
            12,
        ]  # Trainer's own, as ever


def test_a_reporter_that_fails_ends_no_training(tmp_path: Path) -> None:
    class Fails(Reporter):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "sharpness/lambda_max" in logs:
                raise ConnectionError("no route to host")

    watching = SharpnessCallback(objective, every=4, samples=4, max_products=30)
    with pytest.warns(RuntimeWarning, match="no route to host"):
        fit([watching, Fails()], tmp_path).train()
    assert [row["step"] for row in watching.monitor.rows] == [4, 8, 12]


def test_tensorboard_through_report_to(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watching = SharpnessCallback(objective, every=4, samples=4, max_products=30)
    fit([watching], tmp_path, report_to=["tensorboard"], logging_dir=str(tmp_path / "logs")).train()
    events = EventAccumulator(str(next((tmp_path / "logs").rglob("events*")).parent))
    events.Reload()
    values = [s.value for s in events.Scalars("train/sharpness/lambda_max")]
    assert values == pytest.approx([row["lambda_max"] for row in watching.monitor.rows])
