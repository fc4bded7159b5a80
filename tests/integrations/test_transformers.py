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
    watching = SharpnessCallback(objective, every=2, path=tmp_path / "s.parquet", samples=4)
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
    choices: dict[str, Any] = {"every": 2, "path": path, "samples": 4}
    fit([SharpnessCallback(objective, **choices)], tmp_path, save_strategy="epoch").train()
    whole = pd.read_parquet(path)
    fit([SharpnessCallback(objective, **choices)], tmp_path).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-6")
    )
    resumed = pd.read_parquet(path)
    assert resumed["step"].tolist() == whole["step"].tolist() == [2, 4, 6, 8, 10, 12]
    assert resumed["lambda_max"].tolist() == pytest.approx(whole["lambda_max"].tolist(), rel=0.02)
