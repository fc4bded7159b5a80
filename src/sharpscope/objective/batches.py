"""Fixed data for L(θ): read once, verified to be the same on every reading, hashed, cut into chunks.

A loader that shuffles or augments has no single L(θ); it is refused. What fits in memory is kept as
read; a larger loader is read again on every pass and each pass is checked against the first one's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from sharpscope.autograd.module_state import RandomState, preserved_random_state
from sharpscope.errors import InputError

KEEP_BYTES = 4 * 2**30
"""Batches up to this size in total are kept in memory; larger loaders are read again on every pass."""

_END = object()
_REMEDY = "pass a DataLoader with shuffle=False and without random augmentation, or a list of its batches"


class FixedBatches:
    """The batches of an objective, the same on every iteration.

    Parameters
    ----------
    source
        A pair of tensors or a dictionary (one batch), an iterable of batches that can be read more than once, or a
        ``DataLoader``.
    pairs
        Whether each batch must be an (inputs, targets) pair of tensors.
    may_be_empty
        Whether there may be no batch at all, as on a rank whose share of the data is none.

    """

    def __init__(
        self, source: Any, *, pairs: bool, keep_bytes: int = KEEP_BYTES, may_be_empty: bool = False
    ) -> None:
        one_pair = _is_tensor_pair(source) and (pairs or isinstance(source, tuple))
        if one_pair or isinstance(source, Mapping):  # a single batch
            source = [tuple(source) if one_pair else source]
        _refuse_one_shot(source)
        _refuse_random_sampler(source)
        self._source: Iterable[Any] = source
        self._check: Callable[[Any, int], Any] = _as_pair if pairs else _as_is
        kept: list[Any] | None = []
        seen = 0
        digest = hashlib.sha256()
        with preserved_random_state():
            for batch in self._read():
                _update(digest, batch)
                seen += _nbytes(batch)
                if kept is not None:
                    kept.append(batch)
                    if seen > keep_bytes:
                        kept = None
            self.digest = digest.hexdigest()
            self._kept = kept
            self.count = self._count
            if self.count == 0 and not may_be_empty:
                raise InputError("batches must hold at least one batch, received none; check the loader")
            if not isinstance(source, list | tuple):
                # The random state runs on between the two readings, so random augmentation shows.
                for _ in self._verified():
                    pass

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches in order; a streamed loader is verified as it is read."""
        if self._kept is not None:
            return iter(self._kept)
        return self._streamed()

    @property
    def streams(self) -> bool:
        """Whether the batches are read again on every pass, since they take too much memory to keep."""
        return self._kept is None

    def _streamed(self) -> Iterator[Any]:
        """Read again; the reading has random states of its own, so that the caller's are left between two batches."""
        batches = self._verified()
        own = RandomState()
        while True:
            callers = RandomState()
            try:
                own.restore()
                batch = next(batches, _END)
                own = RandomState()
            finally:
                callers.restore()
            if batch is _END:
                return
            yield batch

    def _verified(self) -> Iterator[Any]:
        digest = hashlib.sha256()
        for batch in self._read():
            _update(digest, batch)
            yield batch
        if digest.hexdigest() != self.digest:
            raise InputError(
                "the measured data must be the same on every reading, this loader gave different batches "
                f"when read again (it shuffles or augments); {_REMEDY}"
            )

    def _read(self) -> Iterator[Any]:
        self._count = 0
        for index, batch in enumerate(self._source):
            self._count += 1
            yield self._check(batch, index)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return all inputs and all targets, each as one tensor in order; needs (inputs, targets) batches."""
        pairs = list(self)
        if len(pairs) == 1:
            return pairs[0][0], pairs[0][1]
        try:
            return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
        except RuntimeError as error:
            raise InputError(
                "drawing samples needs batches whose inputs agree in shape beyond the first axis, "
                f"received {sorted({tuple(x.shape[1:]) for x, _ in pairs})}; pad them to one shape"
            ) from error


def cut(inputs: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield consecutive chunks of at most ``size`` samples; views, no copies."""
    return zip(inputs.split(size), targets.split(size), strict=True)


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor in nested dicts, lists, tuples and objects with ``.to``-style fields."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        mapped = {key: map_tensors(item, function) for key, item in value.items()}
        try:
            return type(value)(mapped)  # type: ignore[call-arg]
        except TypeError:
            return mapped
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, function) for item in value)
    if hasattr(value, "apply") and hasattr(value, "clone"):  # torch_geometric's Data
        return value.clone().apply(function)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Return every tensor in nested dicts, lists and tuples, in order."""
    return [leaf for leaf in _leaves(value) if isinstance(leaf, Tensor)]


def first_rows(batch: Any, count: int) -> Any:
    """Return the first rows of every tensor of a batch, where all have the same number of rows; else the batch.

    >>> first_rows({"x": torch.arange(6).reshape(3, 2), "y": torch.arange(3)}, 1)
    {'x': tensor([[0, 1]]), 'y': tensor([0])}
    """
    tensors = tensors_in(batch)
    rows = {len(tensor) if tensor.ndim else 0 for tensor in tensors}
    if len(rows) != 1 or not 0 < count < rows.pop():
        return batch
    return map_tensors(batch, lambda tensor: tensor[:count])


def _is_tensor_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, Tensor) for v in value)


def _as_is(batch: Any, index: int) -> Any:
    return batch


def _as_pair(batch: Any, index: int) -> tuple[Tensor, Tensor]:
    if not _is_tensor_pair(batch):
        raise InputError(
            f"each batch must be a pair (inputs, targets) of tensors, batch {index} is {_kind(batch)}; "
            "for other batches use Objective.from_batch_loss"
        )
    inputs, targets = batch
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise InputError(
            f"inputs and targets must have the same number of samples, batch {index} has shapes "
            f"{tuple(inputs.shape)} and {tuple(targets.shape)}; pair them up"
        )
    if len(inputs) == 0:
        raise InputError(f"a batch must hold at least one sample, batch {index} is empty; leave it out")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise InputError(f"inputs must be finite, batch {index} holds NaN or infinity; clean the data first")
    return inputs, targets


def _kind(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def _refuse_one_shot(source: Any) -> None:
    if not isinstance(source, Iterable):
        raise InputError(
            "batches must be a pair of tensors, an iterable of batches or a DataLoader, "
            f"received {type(source).__name__}; wrap a single batch in a list"
        )
    if iter(source) is source if not isinstance(source, DataLoader) else False:
        raise InputError(
            "batches must be readable more than once, received a one-shot iterator; pass list(iterator)"
        )


def _refuse_random_sampler(source: Any) -> None:
    if isinstance(source, DataLoader) and isinstance(
        source.sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler
    ):
        raise InputError(
            "the measured data must be the same on every reading, this DataLoader shuffles "
            f"({type(source.sampler).__name__}); {_REMEDY}"
        )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key)
            yield from _leaves(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif hasattr(value, "to_dict") and not isinstance(value, Tensor):  # torch_geometric's Data
        yield from _leaves(value.to_dict())
    else:
        yield value


def _nbytes(value: Any) -> int:
    return sum(leaf.nbytes for leaf in _leaves(value) if isinstance(leaf, Tensor))


def _update(digest: Any, value: Any) -> None:
    for leaf in _leaves(value):
        if isinstance(leaf, Tensor):
            update_with_tensor(digest, leaf)
        else:
            digest.update(repr(leaf).encode())


def update_with_tensor(digest: Any, tensor: Tensor) -> None:
    """Feed a tensor's dtype, shape and bytes to a hashlib digest."""
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    dense = tensor.detach().cpu().contiguous()
    if dense.numel():
        digest.update(dense.reshape(-1).view(torch.uint8).numpy())
