"""Exact products with the Hessian or the Gauss-Newton matrix over the full data, within a memory budget.

A Hessian product is the derivative of (∇L(θ) · v). The graph of ∇L costs one to two gradients to build; with it at
hand a product costs one to two more, without it about three. So the graphs of as many chunks as fit are kept from the
first product on, and the rest is rebuilt for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, get_args

import psutil
import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.objective.chunking import held_here, retry_with_smaller_chunks
from sharpscope.objective.graphs import ChunkProduct
from sharpscope.objective.importance_sampling import Build
from sharpscope.objective.objective import Objective

Matrix = Literal["hessian", "ggn"]

Memory = int | str | None
"""A budget for kept graphs: bytes, a string such as "2GiB", or None for half of what is free."""

GRAPH_COST, PRODUCT_COST = 1.5, 2.0
"""What a graph of all the data and a product on a kept graph cost, in gradients: measured 1.0 to 1.6, and 1.1 to 1.4
(perceptrons) to 2.2 (convolutions), on two cores."""

AHEAD = 0.8
"""Largest share of the memory that graphs may take which are kept before a part of the data is looked at: the part,
at most a quarter of the data, finds room for its own beside."""

_UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


class CurvatureProducts:
    """A curvature matrix of an objective at its current parameters, as an operator on blocks of vectors (k, size).

    Use it as a context: the kept graphs are released on leaving. Full-data products are counted in
    ``obj.cost.products``.

    Parameters
    ----------
    memory
        Budget of the kept graphs, see `Memory`. What does not fit is rebuilt for every block of products.
    matrix
        ``"hessian"`` ∇²L(θ), or ``"ggn"``, the generalised Gauss-Newton matrix (1/N) Σ Jᵀ (∂²ℓ/∂f²) J with J the
        Jacobian of the outputs f.

    Attributes
    ----------
    vectors, graphs
        How many vectors have been multiplied, and how many times the graph of all the data has been built.

    Raises
    ------
    InputError
        For another matrix, and for ``"ggn"`` of an objective made with `from_batch_loss`, whose outputs are unknown.

    """

    def __init__(
        self,
        obj: Objective,
        memory: Memory = None,
        matrix: Matrix = "hessian",
    ) -> None:
        if matrix not in get_args(Matrix):
            raise InputError(f"matrix must be 'hessian' or 'ggn', received {matrix!r}; choose one")
        self.obj = obj
        self.memory = budget(memory, obj.device)
        self._build = (
            obj.evaluator.hessian_graphs if matrix == "hessian" else obj.evaluator.gauss_newton_graphs
        )
        self._leaves = obj.evaluator.leaves()
        self._kept: list[tuple[ChunkProduct, float]] = []
        self._kept_bytes = 0
        self._keeping = True
        self._bytes_per_sample: float | None = None
        self.vectors, self.graphs = 0, 0.0

    @property
    def gradients(self) -> float:
        """What all products so far have cost, in gradients of the data, by `GRAPH_COST` and `PRODUCT_COST`."""
        return GRAPH_COST * self.graphs + PRODUCT_COST * self.vectors

    def __enter__(self) -> CurvatureProducts:
        """Return the operator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Release the kept graphs."""
        self.release()

    def release(self) -> None:
        """Drop the kept graphs; later products rebuild them."""
        self._kept.clear()
        self._kept_bytes = 0
        self._keeping = True

    @property
    def kept_bytes(self) -> int:
        """Memory that the kept graphs take, as counted when they were built."""
        return self._kept_bytes

    def smaller_chunks(self) -> int | None:
        """Drop the kept graphs, keep half as much from now on, and halve the objective's chunks."""
        self.memory = min(self.memory, self._kept_bytes) // 2
        self.release()
        self._bytes_per_sample = None
        return self.obj.evaluator.smaller_chunks()

    @retry_with_smaller_chunks
    def __call__(self, block: Tensor) -> Tensor:
        """Return A V for a vector (size,) or the rows of a block (k, size), in its shape."""
        image = self.obj.evaluator.multiply(self._graphs(), block)
        self.vectors += 1 if block.ndim == 1 else len(block)
        return image

    @retry_with_smaller_chunks
    def keep_all(self, build: Build) -> bool:
        """Keep the graphs of all chunks as ``build`` makes them; none, and return False, where `AHEAD` forbids."""
        for _ in self._graphs(build):
            expected = (self._bytes_per_sample or 0) * self.obj.evaluator.evaluated
            if not self._keeping or expected > AHEAD * self.memory:
                self.release()
                return False
        return True

    def _graphs(self, build: Build | None = None) -> Iterator[tuple[ChunkProduct, float]]:
        """Yield every chunk's graph: the kept ones, then the others as they are built."""
        built, weight = 0.0, 0.0
        for number, (graph, n) in enumerate(self._kept, 1):
            weight += n
            yield graph, n
            self.obj.evaluator.chunk_done(number)
        for graph, n in (build or self._build)(self._leaves, skip=len(self._kept)):
            if self._keeping:
                if self._bytes_per_sample is None:
                    self._bytes_per_sample = graph_bytes(graph.roots) / n
                size = int(self._bytes_per_sample * n)
                # one more graph is alive while the next is rebuilt
                self._keeping = self._kept_bytes + 2 * size <= self.memory
                if (ranks := self.obj.evaluator.distribution) is not None:
                    self._keeping = ranks.agreed(self._keeping)
                if self._keeping:
                    self._kept.append((graph, n))
                    self._kept_bytes += size
            built, weight = built + n, weight + n
            yield graph, n
            del graph
        self.graphs += built / weight if weight else 0.0  # a rank may hold no data


def graph_bytes(roots: Sequence[Tensor]) -> int:
    """Return the bytes of all tensors that the graphs behind some tensors hold, each part of a storage once.

    A chunk of the inputs is a view of the whole data; only the part that is looked at counts.
    """
    parts: dict[int, dict[int, int]] = {}  # storage -> first byte of a part -> its length
    whole: dict[int, int] = {}
    seen: set[object] = set()
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for tensor in map(held_here, _saved(node)):
            storage = tensor.untyped_storage()
            whole[storage.data_ptr()] = storage.nbytes()
            held = parts.setdefault(storage.data_ptr(), {})
            held[tensor.data_ptr()] = max(held.get(tensor.data_ptr(), 0), tensor.nbytes)
        stack += [parent for parent, _ in node.next_functions if parent is not None]
    return sum(min(whole[key], sum(held.values())) for key, held in parts.items())


def _saved(node: Any) -> Iterator[Tensor]:
    """Yield the tensors that one node of an autograd graph holds."""
    for name in dir(node):
        if name.startswith("_saved_") or name == "saved_tensors":
            with suppress(RuntimeError, AttributeError):
                value = getattr(node, name)
                for item in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(item, Tensor):
                        yield item


def budget(memory: Memory, device: torch.device) -> int:
    """Return a memory budget in bytes; by default half of what is free on the device.

    >>> budget("2GiB", torch.device("cpu")), budget("1.5 MB", torch.device("cpu")), budget(10, torch.device("cpu"))
    (2147483648, 1500000, 10)
    """
    if memory is None:
        if device.type == "cuda":
            return int(torch.cuda.mem_get_info(device)[0] // 2)
        return int(psutil.virtual_memory().available // 2)
    if isinstance(memory, int) and memory >= 0:
        return memory
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(memory))
    unit = _UNITS.get(match[2].lower().removesuffix("ytes")) if match else None
    if match is None or unit is None:
        raise InputError(
            f"memory must be bytes or a size such as '2GiB', received {memory!r}; leave it out to use half of it"
        )
    return int(float(match[1]) * unit)
