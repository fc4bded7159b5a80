"""From text to the batches of a language model: blocks of tokens, masked tokens, rows with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.models.pretrained import Pretrained
from sharpscope.seeding import generator

BLOCK = 128
"""Tokens in a row of text unless told otherwise, or fewer where the model's positions end sooner. Short rows keep
what attention holds for a second derivative small; see `sharpscope.objective.transformers.CHUNK_TOKENS`."""

MASKED = 0.15
"""Share of tokens that a masked language model has to tell. Of these 0.8 become the mask, 0.1 another token and 0.1
stay (Devlin et al. 2019, section 3.1)."""

IGNORED = -100
ROWS = (
    32  # of a classifier's texts in a batch; rows are sorted by length, so that little of a batch is padding
)

Batch = dict[str, Tensor]


def blocks_of(
    pretrained: Pretrained, texts: Sequence[str], block: int | None, samples: int | None, seed: int
) -> tuple[list[Batch], tuple[str, ...]]:
    """Return the batches of a causal or masked language model, and notes.

    Texts are joined, with the end-of-text token between them, and cut into rows of ``block`` tokens; the last row may
    be shorter. ``samples`` takes a seeded subset of the rows.
    """
    width = _width(pretrained, block)
    ids, how = _joined(pretrained, texts)
    masked = pretrained.kind == "masked language model"
    around = _around(pretrained) if masked else ([], [])
    inner = width - len(around[0]) - len(around[1])
    if inner < 2:
        raise InputError(
            f"--block must leave room for two tokens beside the special ones, received {width}; say more"
        )
    if len(ids) < 2:
        raise InputError(
            f"a language model needs at least two tokens of text, received {len(ids)}; give more text"
        )
    rows = [[*around[0], *ids[at : at + inner], *around[1]] for at in range(0, len(ids), inner)]
    rows = [row for row in rows if len(row) > len(around[0]) + len(around[1]) + (0 if masked else 1)]
    notes = [how, f"{len(ids)} tokens in {len(rows)} rows of {width}."]
    rows = _chosen(rows, samples, seed, notes, "rows")
    batches = []
    for length in sorted({len(row) for row in rows}, reverse=True):
        batch = {"input_ids": torch.tensor([row for row in rows if len(row) == length])}  # (rows, length)
        batches.append(batch)
    if not masked:
        return batches, tuple(notes)
    mask = _mask_token(pretrained)
    special = set(around[0]) | set(around[1])
    notes.append(
        f"{MASKED:.0%} of the tokens are to be told, drawn by seed {seed}; the mask is token {mask}."
    )
    return [
        _masked(batch, mask, special, int(pretrained.config.vocab_size), seed, i)
        for i, batch in enumerate(batches)
    ], tuple(notes)


def labelled_rows(
    pretrained: Pretrained,
    texts: Sequence[str],
    labels: Tensor,
    block: int | None,
    samples: int | None,
    seed: int,
) -> tuple[list[Batch], tuple[str, ...]]:
    """Return the batches of a text classifier: padded rows with attention masks and labels, and notes."""
    width = _width(pretrained, block)
    notes: list[str] = []
    if pretrained.tokenizer is None:
        rows = [list(text.encode())[:width] for text in texts]
        notes.append(_byte_ids(pretrained))
    else:
        rows = [
            list(ids)
            for ids in pretrained.tokenizer(list(texts), truncation=True, max_length=width)["input_ids"]
        ]
    empty = next((i for i, row in enumerate(rows) if not row), None)
    if empty is not None:
        raise InputError(f"every row needs some text, row {empty + 1} has none; leave it out")
    cut = sum(len(row) == width for row in rows)
    if cut:
        notes.append(f"{cut} of {len(rows)} rows reach {width} tokens; what goes beyond is cut off.")
    order = _chosen(list(range(len(rows))), samples, seed, notes, "rows")
    pad = pretrained.config.pad_token_id
    many = ROWS if pad is not None else 1  # without a padding token the library takes one row at a time
    order.sort(key=lambda i: len(rows[i]))
    batches = []
    for at in range(0, len(order), many):
        part = order[at : at + many]
        longest = max(len(rows[i]) for i in part)
        ids = torch.full((len(part), longest), pad or 0)  # (rows, tokens)
        attention = torch.zeros_like(ids)
        for row, i in enumerate(part):
            ids[row, : len(rows[i])] = torch.tensor(rows[i])
            attention[row, : len(rows[i])] = 1
        batches.append({"input_ids": ids, "attention_mask": attention, "labels": labels[part]})
    return batches, tuple(notes)


def _width(pretrained: Pretrained, block: int | None) -> int:
    most = pretrained.most_tokens
    if block is not None and most is not None and block > most:
        raise InputError(
            f"--block may be {most} for hf:{pretrained.name} at most, received {block}; say less"
        )
    return block or min(BLOCK, most or BLOCK)


def _joined(pretrained: Pretrained, texts: Sequence[str]) -> tuple[list[int], str]:
    tokenizer = pretrained.tokenizer
    if tokenizer is None:
        return list("\n".join(texts).encode()), _byte_ids(pretrained)
    end = tokenizer.eos_token_id
    end = getattr(tokenizer, "sep_token_id", None) if end is None else end
    ids: list[int] = []
    for i, text in enumerate(texts):
        ids += [end] if i and end is not None else []
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
    vocabulary = int(pretrained.config.vocab_size)
    if ids and max(ids) >= vocabulary:
        raise InputError(
            f"hf:{pretrained.name} has {vocabulary} tokens and its tokenizer gives token {max(ids)}; they do not "
            "belong together"
        )
    return ids, f"Tokens by its own tokenizer, {type(tokenizer).__name__}."


def _byte_ids(pretrained: Pretrained) -> str:
    vocabulary = int(pretrained.config.vocab_size)
    if vocabulary < 256:
        raise InputError(
            f"hf:{pretrained.name} has no tokenizer, and its {vocabulary} tokens are fewer than the 256 bytes that "
            "would stand in; save its tokenizer beside it"
        )
    return "No tokenizer lies beside the model: tokens are the bytes of the text in UTF-8, 0 to 255."


def _around(pretrained: Pretrained) -> tuple[list[int], list[int]]:
    """Return the tokens before and after every row of a masked language model."""
    first, last = (getattr(pretrained.tokenizer, f"{name}_token_id", None) for name in ("cls", "sep"))
    return ([first], [last]) if first is not None and last is not None else ([], [])


def _mask_token(pretrained: Pretrained) -> int:
    mask = getattr(pretrained.tokenizer, "mask_token_id", None)
    if mask is None and pretrained.tokenizer is None and int(pretrained.config.vocab_size) > 256:
        mask = 256  # the first token that is no byte
    if mask is None:
        raise InputError(
            f"a masked language model needs a mask token, hf:{pretrained.name} has none; save a tokenizer with "
            "one"
        )
    return int(mask)


def _masked(batch: Batch, mask: int, special: set[int], vocabulary: int, seed: int, number: int) -> Batch:
    """Return a batch whose labels are the drawn tokens; at least one in every row."""
    ids = batch["input_ids"]
    draws = generator("masked tokens", seed, number)
    may = torch.ones_like(ids, dtype=torch.bool)
    for token in special:
        may &= ids != token
    chance = torch.rand(ids.shape, generator=draws).masked_fill(~may, 2.0)
    drawn = (chance < MASKED) | (chance == chance.min(1, keepdim=True).values)
    drawn &= may
    kind = torch.rand(ids.shape, generator=draws)
    other = torch.randint(vocabulary, ids.shape, generator=draws)
    inputs = torch.where(drawn & (kind < 0.8), mask, torch.where(drawn & (kind >= 0.9), other, ids))
    return {"input_ids": inputs, "labels": ids.masked_fill(~drawn, IGNORED)}


def _chosen(items: list[Any], samples: int | None, seed: int, notes: list[str], what: str) -> list[Any]:
    if samples is None or samples >= len(items):
        return items
    notes.append(f"{samples} of {len(items)} {what}, a random subset with seed {seed}.")
    order = torch.randperm(len(items), generator=generator("objective", seed))[:samples].tolist()
    return [items[i] for i in sorted(order)]
