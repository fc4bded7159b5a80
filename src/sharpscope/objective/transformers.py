"""Models of Hugging Face's transformers as measured functions: the loss a model trains with, and how batches weigh.

The loss is computed here from the model's logits, in the precision of the measurement: the library's own losses
convert logits to float32 first, which leaves a float64 measurement with seven digits. Nothing of the library is
imported; a model is told by its configuration and its class's name, as the library itself does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpscope.errors import InputError

IGNORED = -100
"""The label that counts for nothing, by the library's convention."""

CHUNK_TOKENS = 2048
"""Tokens evaluated at once. What attention holds for a double backward grows with tokens, not with rows."""

TOKENS_TIMES_PARAMETERS = 1e10
"""The same for large models on a CPU, in tokens times parameters: a pass over a chunk cannot be interrupted inside
torch, and with so many the longest takes about two seconds on one core (GPT-2 of 124 million parameters, 64
tokens)."""


def chunk_tokens_for(model: nn.Module) -> int:
    """Return how many tokens of a model are evaluated at once where nothing else is asked for.

    >>> chunk_tokens_for(nn.Linear(1000, 1000)), chunk_tokens_for(nn.Linear(10000, 10000, device="meta"))
    (2048, 2048)
    """
    parameters = list(model.parameters())
    if any(p.device.type != "cpu" for p in parameters):
        return CHUNK_TOKENS
    return max(
        min(CHUNK_TOKENS, int(TOKENS_TIMES_PARAMETERS / max(sum(p.numel() for p in parameters), 1))), 1
    )


HeadLoss = Callable[[Any, Mapping[str, Any]], tuple[Tensor, float]]
"""``loss(outputs, batch)`` gives the mean loss and the number of labels that the mean is over."""


@dataclass(frozen=True)
class TransformersLoss:
    """The mean loss of a model on a batch of keyword arguments, with the number of labels it is over."""

    loss: HeadLoss
    passes_labels: bool = False

    @property
    def causal(self) -> bool:
        """Whether each token is predicted from those before it."""
        return self.loss is _next_tokens

    @property
    def cuts(self) -> bool:
        """Whether a batch may be cut: a contrastive loss compares all its rows."""
        return self.loss is not _contrastive

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, float]:
        """Return (mean loss, number of labels)."""
        given = {key: value for key, value in batch.items() if key != "labels" or self.passes_labels}
        return self.loss(model(**given), batch)


def loss_for(model: nn.Module) -> TransformersLoss:
    """Return the loss that a model's head trains with.

    - causal language models: cross-entropy of each token given those before it;
    - masked language models and token classifiers: cross-entropy at every label that is not ignored;
    - encoder–decoder models: cross-entropy of the decoder's labels;
    - sequence, image and audio classifiers: cross-entropy, or the mean squared error where the configuration says
      regression, or binary cross-entropy where it says several labels;
    - CLIP's family: the symmetric contrastive loss over the batch as given.

    Raises `InputError` for any other head; pass a loss of your own then.
    """
    wrapped = getattr(model, "get_base_model", None)  # an adapter (PEFT) around the model that has the head
    head = wrapped() if callable(wrapped) else model
    name = type(head).__name__
    config = getattr(head, "config", None)
    if config is None:
        raise InputError(
            f"from_transformers takes a model of the transformers library, received {name} without a configuration; "
            "use Objective(model, loss, batches) or Objective.from_batch_loss"
        )
    if getattr(config, "is_encoder_decoder", False) and name.endswith("ForConditionalGeneration"):
        return TransformersLoss(
            _tokens, passes_labels=True
        )  # the model makes the decoder's inputs of the labels
    if name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return TransformersLoss(_next_tokens)
    if name.endswith(("ForMaskedLM", "ForTokenClassification", "ForPreTraining")):
        return TransformersLoss(_tokens)
    if name.endswith(("ForSequenceClassification", "ForImageClassification", "ForAudioClassification")):
        return TransformersLoss(_classes_of(config))
    if hasattr(config, "text_config") and hasattr(config, "vision_config") and hasattr(head, "logit_scale"):
        return TransformersLoss(_contrastive)
    raise InputError(
        f"from_transformers knows the losses of language models, classifiers and CLIP, received {name}; "
        "pass loss=lambda outputs, batch: (mean loss, number of labels)"
    )


class TokenBatches:
    """Batches of keyword arguments, cut by rows so that none holds more than so many tokens.

    Rows of a batch are independent given their attention mask, so cutting changes rounding only. A batch that has no
    label that counts is left out. It can be read any number of times.
    """

    def __init__(self, batches: Any, chunk_tokens: int | None, causal: bool = False) -> None:
        if isinstance(batches, Mapping):
            batches = [batches]
        if chunk_tokens is not None and chunk_tokens < 1:
            raise InputError(
                f"chunk_tokens must be at least 1, received {chunk_tokens}; {CHUNK_TOKENS} is usual"
            )
        self._batches: Iterable[Any] = batches
        self._chunk_tokens = chunk_tokens
        self._causal = causal

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches with labels, as dictionaries."""
        for given in self._batches:
            batch = _as_dictionary(given)
            if self._causal and "labels" not in batch and "input_ids" in batch:
                batch["labels"] = _labels_of(batch)
            for piece in self._cut(batch):
                if _has_labels_that_count(piece.get("labels"), self._causal):
                    yield piece

    def _cut(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.ndim}
        rows = len(next(iter(tensors.values()))) if tensors else 0
        width = batch["input_ids"].shape[-1] if "input_ids" in tensors else 1
        step = rows if self._chunk_tokens is None else max(1, self._chunk_tokens // width)
        if step >= rows or any(len(value) != rows for value in tensors.values()):
            yield batch
            return
        for start in range(0, rows, step):
            yield {
                key: value[start : start + step] if key in tensors else value for key, value in batch.items()
            }


def token_batches(
    model: nn.Module, batches: Any, head: TransformersLoss, chunk_tokens: int | str | None
) -> TokenBatches:
    """Return the batches of a model, cut as its loss allows; ``"auto"`` leaves it to `chunk_tokens_for`."""
    tokens = chunk_tokens_for(model) if isinstance(chunk_tokens, str) else chunk_tokens
    return TokenBatches(batches, tokens if head.cuts else None, head.causal)


def _as_dictionary(batch: Any) -> dict[str, Any]:
    if not isinstance(batch, Mapping) and not hasattr(batch, "keys"):
        raise InputError(
            f"from_transformers takes batches of keyword arguments (input_ids, attention_mask, labels, …), received "
            f"{type(batch).__name__}; pass dictionaries, as tokenizers and collators return them"
        )
    return {str(key): batch[key] for key in batch.keys()}  # noqa: SIM118 - a BatchEncoding iterates over fields


def _labels_of(batch: Mapping[str, Any]) -> Tensor:
    """Return a causal model's own inputs as labels, padding ignored."""
    labels: Tensor = batch["input_ids"].clone()
    mask = batch.get("attention_mask")
    return labels if mask is None else labels.masked_fill(mask == 0, IGNORED)


def _has_labels_that_count(labels: Any, causal: bool) -> bool:
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        return True
    return bool((labels[..., 1:] if causal else labels).ne(IGNORED).any())


def _cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    labels = labels.to(logits.device).reshape(-1)
    mean = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels, ignore_index=IGNORED)
    return mean, float(labels.ne(IGNORED).sum())


def _labels(batch: Mapping[str, Any]) -> Tensor:
    if "labels" not in batch:
        raise InputError(
            f"a batch needs 'labels' to have a loss, received {', '.join(map(str, batch))}; add them, or pass loss="
        )
    labels: Tensor = batch["labels"]
    return labels


def _next_tokens(outputs: Any, batch: Mapping[str, Any]) -> tuple[Tensor, float]:
    logits = outputs["logits"]  # (rows, tokens, vocabulary)
    labels = _labels(batch)[..., -logits.shape[1] :]
    return _cross_entropy(logits[:, :-1], labels[:, 1:])


def _tokens(outputs: Any, batch: Mapping[str, Any]) -> tuple[Tensor, float]:
    logits = outputs["logits"] if "logits" in outputs else outputs["prediction_logits"]
    return _cross_entropy(logits, _labels(batch))


def _classes_of(config: Any) -> HeadLoss:
    def classes(outputs: Any, batch: Mapping[str, Any]) -> tuple[Tensor, float]:
        logits, labels = outputs["logits"], _labels(batch)
        problem = getattr(config, "problem_type", None) or (
            "regression" if logits.shape[-1] == 1
            else "single_label_classification" if not labels.is_floating_point()
            else "multi_label_classification"
        )  # fmt: skip
        if problem == "single_label_classification":
            return _cross_entropy(logits, labels)
        if problem == "regression":
            return functional.mse_loss(logits.reshape(labels.shape), labels.to(logits)), float(len(labels))
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits)), float(len(labels))

    return classes


def _contrastive(outputs: Any, batch: Mapping[str, Any]) -> tuple[Tensor, float]:
    logits = outputs["logits_per_text"]  # (texts, images)
    pairs = torch.arange(len(logits), device=logits.device)
    both = functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)
    return both / 2, float(len(pairs))
