"""Fixed data: what is refused, what is kept, what is read again, and what enters the hash."""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from problems import data
from sharpscope.errors import InputError
from sharpscope.objective.batches import FixedBatches, cut, map_tensors


class _Shuffled(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(19).tolist())

    def __len__(self) -> int:
        return 19


class _PythonNoise(TensorDataset):
    def __getitem__(self, index: Any) -> Any:
        x, y = super().__getitem__(index)
        return x + random.random(), y


class _NumpyNoise(TensorDataset):
    def __getitem__(self, index: Any) -> Any:
        x, y = super().__getitem__(index)
        return x * np.random.rand(), y


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(*data(19, 4), strict=True)


def _random_states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "build",
    [
        lambda plain: DataLoader(plain, 4, shuffle=True),
        lambda plain: DataLoader(plain, 4, sampler=_Shuffled()),
        lambda plain: DataLoader(_PythonNoise(*data(19, 4)), 4),
        lambda plain: DataLoader(_NumpyNoise(*data(19, 4)), 4),
    ],
    ids=["shuffle", "sampler", "python noise", "numpy noise"],
)
def test_shuffling_and_augmenting_loaders_are_refused_without_moving_any_random_state(build: Any) -> None:
    loader = build(TensorDataset(*data(19, 4)))
    before = _random_states()
    with pytest.raises(InputError, match=r"shuffle=False"):
        FixedBatches(loader, pairs=True)
    assert _random_states() == before


def test_a_stream_that_repeats_is_taken_and_a_one_shot_iterator_is_not() -> None:
    batches = FixedBatches(DataLoader(_Stream(), 4), pairs=True)
    assert [len(y) for _, y in batches] == [4, 4, 4, 4, 3]
    assert batches.count == 5
    with pytest.raises(InputError, match="list"):
        FixedBatches(iter([data(5, 4)]), pairs=True)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ([], "at least one batch"),
        ([data(3, 4)[0]], "batch 0 is of type Tensor"),
        ([data(3, 4), (1, 2, 3)], "batch 1 is a tuple of 3"),
        (3, "iterable of batches"),
        ((data(3, 4)[0], data(4, 4)[1]), "same number"),
        ([(data(3, 4)[0][:0], data(3, 4)[1][:0])], "at least one sample"),
        ((data(3, 4)[0] * torch.nan, data(3, 4)[1]), "finite"),
        ([(torch.ones(()), torch.ones(()))], "same number"),
    ],
)
def test_batches_that_are_no_pairs_are_refused(source: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        FixedBatches(source, pairs=True)
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_read_again_and_checked_on_every_pass() -> None:
    drifting = TensorDataset(*data(19, 4))
    kept = FixedBatches(DataLoader(drifting, 8), pairs=True)
    streamed = FixedBatches(DataLoader(drifting, 8), pairs=True, keep_bytes=100)
    assert streamed.digest == kept.digest
    before = _random_states()
    for one, other in zip(kept, streamed, strict=True):
        torch.testing.assert_close(one, other)
    assert _random_states() == before
    drifting.tensors[0][3] += 1
    assert len(list(kept)) == 3  # these are kept as they were read
    with pytest.raises(InputError, match="different batches"):
        list(streamed)


def test_the_hash_depends_on_values_dtypes_shapes_and_nested_entries() -> None:
    x, y = data(6, 4)

    def digest(*batches: Any) -> str:
        return FixedBatches(list(batches), pairs=False).digest

    different = [
        digest((x, y)),
        digest((x.float(), y)),
        digest((x.reshape(4, 6), y)),
        digest((x + 1e-15, y)),
        digest({"x": x, "y": y}),
        digest({"x": x, "z": y}),
        digest({"x": x, "y": y, "extra": 1}),
    ]
    assert len(set(different)) == len(different)
    assert digest({"x": x, "y": y}) == digest({"y": y, "x": x.clone()})


def test_cutting_and_joining_are_inverse() -> None:
    x, y = data(11, 4)
    pieces = list(cut(x, y, 4))
    assert [len(b) for _, b in pieces] == [4, 4, 3]
    assert pieces[1][0].data_ptr() == x[4:].data_ptr()  # no copies
    whole = FixedBatches(pieces, pairs=True).tensors()
    torch.testing.assert_close(whole, (x, y))
    ragged = FixedBatches([(x, y), (x[:, :2], y)], pairs=True)
    with pytest.raises(InputError, match="pad them"):
        ragged.tensors()


def test_a_function_reaches_every_tensor_of_nested_batches() -> None:
    pair = namedtuple("pair", "left right")

    class Graph:
        def __init__(self, x: Tensor) -> None:
            self.x = x

        def clone(self) -> Graph:
            return Graph(self.x)

        def apply(self, function: Any) -> Graph:
            self.x = function(self.x)
            return self

    one = torch.ones(1)
    graph = Graph(one)
    batch = {"a": [one, (one, "text")], "b": pair(one, 3), "c": graph}
    doubled = map_tensors(batch, lambda t: 2 * t)
    assert doubled["a"] == [2 * one, (2 * one, "text")]
    assert isinstance(doubled["b"], pair)
    assert doubled["b"] == pair(2 * one, 3)
    assert doubled["c"].x == 2
    assert graph.x == 1
