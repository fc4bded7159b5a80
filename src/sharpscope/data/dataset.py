"""A data set: what is known of it before it is loaded, and its tensors afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from sharpscope.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class DatasetInfo:
    """One line of the list of data sets.

    Sizes count ``unit`` (images, rows or nodes). ``official_split`` is False where sharpscope itself splits
    80/20 by seed. ``where`` is the folder in which the files were found, None when they were not; ``problem``
    says what is wrong with the files, or what happens since they are missing, None when all is well.
    """

    name: str
    title: str
    task: str
    source: str
    citation: str
    licence: str
    unit: str
    total: int
    train: int
    validation: int
    test: int
    official_split: bool
    standardisation: str
    where: str | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether the files are here and in order."""
        return self.where is not None and self.problem is None

    @property
    def sizes(self) -> str:
        """The sizes in words, such as ``60000/10000 images`` or ``2708 nodes, 140/500/1000``."""
        parts = [self.train, self.validation, self.test] if self.validation else [self.train, self.test]
        split = "/".join(map(str, parts))
        if not self.official_split:
            return f"{self.total} {self.unit}, split {split} by seed"
        if sum(parts) < self.total:
            return f"{self.total} {self.unit}, {split}"
        return f"{split} {self.unit}"


@dataclass(frozen=True)
class Split:
    """One part of a data set, whole and in memory.

    ``inputs`` has shape (n, ...). ``targets`` has shape (n,), int64 class labels, or (n, 1), floating point,
    for regression. For a graph, ``inputs`` are the indices (n,) of the part's nodes. For a text both are (n, tokens),
    int64, the target of each token being the next one.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InputError(
                f"A split needs as many targets as inputs, received {len(self.inputs)} inputs and "
                f"{len(self.targets)} targets; pass rows that belong together."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Split:
        """Return the split on a device; ``dtype`` converts its floating-point tensors only."""
        return Split(_placed(self.inputs, device, dtype), _placed(self.targets, device, dtype))


@dataclass(frozen=True)
class Graph:
    """A graph whose nodes are the samples: ``features`` (nodes, d) and ``edge_index`` (2, edges), int64.

    An undirected edge appears in both directions; self-loops are left to the model.
    """

    features: Tensor
    edge_index: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Graph:
        """Return the graph on a device; ``dtype`` converts the features only."""
        return Graph(_placed(self.features, device, dtype), _placed(self.edge_index, device, None))


@dataclass(frozen=True)
class Dataset:
    """A data set ready to train on, with the sentences that must stand beside any number taken from it.

    ``input_shape`` is the shape of one sample, (channels, height, width) for images. ``standardisation`` says
    what was done to the inputs; ``notes`` say what a reader of the results has to know about the data.
    ``whole_test`` is the whole test part where a run's end is judged on it and ``test`` is a sample of it.
    """

    name: str
    task: Literal["classification", "regression"]
    n_outputs: int
    input_shape: tuple[int, ...]
    train: Split
    validation: Split | None
    test: Split
    standardisation: str
    notes: tuple[str, ...] = ()
    graph: Graph | None = None
    whole_test: Split | None = None

    @property
    def samples_are(self) -> Literal["values", "nodes", "tokens"]:
        """What a sample is: numbers, a node of the graph, or a sequence of tokens."""
        if self.graph is not None:
            return "nodes"
        return "values" if self.train.targets.ndim < 2 or self.train.inputs.is_floating_point() else "tokens"

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Dataset:
        """Return the data set on a device, optionally with its floating-point tensors as ``dtype``."""
        return replace(
            self,
            train=self.train.to(device, dtype),
            validation=None if self.validation is None else self.validation.to(device, dtype),
            test=self.test.to(device, dtype),
            whole_test=None if self.whole_test is None else self.whole_test.to(device, dtype),
            graph=None if self.graph is None else self.graph.to(device, dtype),
        )


def _placed(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
