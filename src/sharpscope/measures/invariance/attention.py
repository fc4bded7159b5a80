"""Attention's GL(h) symmetries: which weights form them, how they are applied, and coordinates that do not see them.

The scores of a head are x G Hᵀ xᵀ, with G (n, h) its query weights and H (m, h) its key weights (biases as one more
row), so that any invertible A (h, h) may be put between them: (G, H) → (G A, H A^{-T}). The same holds for its value
weights and the columns of the output layer that read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.autograd.module_state import private_copy
from sharpscope.errors import InputError, NonFiniteError
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator

SEPARATE = (
    *(("query", "key", "value", "output"), ("q_proj", "k_proj", "v_proj", "out_proj")),
    *(("q_proj", "k_proj", "v_proj", "o_proj"), ("q_lin", "k_lin", "v_lin", "out_lin"), ("q", "k", "v", "o")),
)
"""Names that layers of query, key, value and output go by, where they are apart."""

PACKED = (("c_attn", "c_proj"), ("qkv", "proj"), ("in_proj", "out_proj"))
"""Names that one layer of query, key and value, and the output's, go by."""

HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")

SAME_FUNCTION = 1e-8
"""Largest change of the loss in float64, relative to it, that counts as rounding when a candidate is tried."""

TRIED_ON = 4
"""Samples on which candidates are tried."""

TRIED_AT = (0.3, 0.03)
"""How far from the model's own weights candidates are tried, in weights of usual size: at the first where the loss
is finite. At the model's own weights attention need not change the loss: where the output layer starts at zero, or
scores are of 1e-6, what rotary positions do would not be seen."""


@dataclass(frozen=True)
class HeadFactor:
    """One factor (n, h) of a head: the part of a weight that its h units index, and their biases."""

    weight: str
    axis: int
    start: int
    size: int
    bias: str | None = None
    bias_start: int = 0

    def read(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the factor (n, h), a bias as its last row; a copy."""
        part = values[self.weight].narrow(self.axis, self.start, self.size)
        part = part.T if self.axis == 0 else part
        if self.bias is None:
            return part.clone()
        return torch.cat([part, values[self.bias].narrow(0, self.bias_start, self.size)[None]])

    def write(self, values: Mapping[str, Tensor], factor: Tensor) -> None:
        """Put a factor (n, h) where it was read, in place."""
        if self.bias is not None:
            values[self.bias].narrow(0, self.bias_start, self.size).copy_(factor[-1])
            factor = factor[:-1]
        part = values[self.weight].narrow(self.axis, self.start, self.size)
        part.copy_(factor.T if self.axis == 0 else factor)


@dataclass(frozen=True)
class HeadPair:
    """Two factors of one head of which the network uses the product G Hᵀ alone."""

    module: str
    what: str
    head: int
    first: HeadFactor
    second: HeadFactor

    @property
    def names(self) -> set[str]:
        """The parameters it takes part of."""
        sides = (self.first, self.second)
        return {name for side in sides for name in (side.weight, side.bias) if name is not None}


def find_head_pairs(obj: Objective) -> list[HeadPair]:
    """Return the GL(h) symmetries among the measured parameters of an objective, those of every head of attention.

    Candidates are found by the modules that hold them: ``nn.MultiheadAttention``, and modules with layers of the
    usual names (`SEPARATE`, `PACKED`) and a number of heads (`HEADS`). Each module's are tried in a copy with its
    weights moved at random: what changes the loss on a few samples, as rotary positions between query and key do, is
    left out.
    """
    candidates: dict[tuple[str, str], list[HeadPair]] = {}
    for pair in _candidates(obj.model):
        candidates.setdefault((pair.module, pair.what), []).append(pair)
    measured = set(obj.layout.names)
    trial: Objective | None = None
    found: list[HeadPair] = []
    for pairs in candidates.values():
        shapes = dict(zip(obj.layout.names, obj.layout.shapes, strict=True))
        if not all(pair.names <= measured and _wide(pair, shapes) for pair in pairs):
            continue
        trial = trial or _trial(_few(obj))
        if _preserves(trial, pairs):
            found += pairs
    return found


def mixed(model: nn.Module, pairs: list[HeadPair], spread: float, draws: torch.Generator) -> nn.Module:
    """Return a copy of a model with a random A between the factors of every pair.

    A = R diag(s) R′ with random rotations and log-uniform singular values s in [1/``spread``, ``spread``].
    """
    moved = private_copy(model)
    values = {name: parameter.detach() for name, parameter in moved.named_parameters()}
    with torch.no_grad():
        _mix(values, pairs, spread, draws)
    return moved


def _mix(values: Mapping[str, Tensor], pairs: list[HeadPair], spread: float, draws: torch.Generator) -> None:
    for pair in pairs:
        size = pair.first.size
        left, right = (
            torch.linalg.qr(torch.randn(size, size, generator=draws, dtype=torch.float64))[0]
            for _ in range(2)
        )
        scales = spread ** (2 * torch.rand(size, generator=draws, dtype=torch.float64) - 1)
        for side, s in ((pair.first, scales), (pair.second, 1 / scales)):  # A, and A^{-T}
            factor = side.read(values)
            mixing = (left * s) @ right
            side.write(values, (factor.double() @ mixing.to(factor.device)).to(factor.dtype))


def _preserves(obj: Objective, pairs: list[HeadPair]) -> bool:
    """Return whether a random A between the factors of all pairs leaves the loss as it is."""
    values = obj.layout.split(obj.flat())
    _mix(values, pairs, 2.0, generator("attention", pairs[0].module))
    try:
        before, after = obj.loss(), obj.loss(obj.layout.join(values.values()))
    except NonFiniteError:
        return False
    return abs(after - before) <= SAME_FUNCTION * max(abs(before), 1e-3)


def _trial(obj: Objective) -> Objective:
    """Return an objective in float64 of a copy of the model, each of its weights moved at random (`TRIED_AT`)."""
    for distance in TRIED_AT:
        moved = obj.with_copy(torch.float64)
        draws = generator("attention", distance)
        with torch.no_grad():
            for parameter in moved.model.parameters():
                size = float(parameter.square().mean().sqrt()) if parameter.numel() else 0.0
                usual = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
                step = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
                parameter.add_(step.to(parameter.device), alpha=distance * max(size, usual))
        try:
            moved.loss()
        except NonFiniteError:
            continue
        break
    return moved


def _few(obj: Objective) -> Objective:
    try:
        return obj.subset(torch.arange(min(TRIED_ON, int(obj.n_samples))))
    except InputError:
        return obj.with_data([next(iter(obj.evaluator.batches))])


def _wide(pair: HeadPair, shapes: Mapping[str, torch.Size]) -> bool:
    """Return whether both factors have at least as many rows as columns."""
    return all(
        shapes[side.weight][1 - side.axis] + (side.bias is not None) >= side.size
        for side in (pair.first, pair.second)
    )


def _candidates(model: nn.Module) -> Iterator[HeadPair]:
    shared = _shared(model)
    for name, module in model.named_modules():
        for pair in _of_module(name, module):
            if not pair.names & shared:
                yield pair


def _shared(model: nn.Module) -> set[str]:
    """Return the names of parameters that several modules hold, or that are made by a parametrisation."""
    holders: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        holders.setdefault(id(parameter), []).append(name)
    return {name for names in holders.values() if len(names) > 1 for name in names} | {
        name for name, _ in model.named_parameters() if "parametrizations" in name.split(".")
    }


def _of_module(name: str, module: Any) -> Iterator[HeadPair]:
    prefix = f"{name}." if name else ""
    heads = next((getattr(module, key) for key in HEADS if isinstance(getattr(module, key, None), int)), None)
    if heads is None:
        return
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None or module.bias_k is not None:
            return
        bias = None if module.in_proj_bias is None else f"{prefix}in_proj_bias"
        width = module.embed_dim
        q, k, v = (_Part(f"{prefix}in_proj_weight", 0, i * width, width, bias) for i in range(3))
        yield from _pairs(name, heads, q, k, v, _Part(f"{prefix}out_proj.weight", 1, 0, width, None))
        return
    for packed in PACKED:
        layer, last = (_layer(module, prefix, key) for key in packed)
        if layer is not None and last is not None and layer.size == 3 * last.inputs:
            width = last.inputs
            q, k, v = (_Part(layer.weight, layer.axis, i * width, width, layer.bias) for i in range(3))
            yield from _pairs(name, heads, q, k, v, _Part(last.weight, 1 - last.axis, 0, width, None))
            return
    for names in SEPARATE:
        *three, out = [_layer(module, prefix, key) for key in names]
        apart = [one for one in three if one is not None]
        if len(apart) < 3 or len({one.size for one in apart}) > 1:
            continue
        q, k, v = (_Part(one.weight, one.axis, 0, one.size, one.bias) for one in apart)
        fits = out is not None and out.inputs == v.size
        last_part = _Part(out.weight, 1 - out.axis, 0, out.inputs, None) if out is not None and fits else None
        yield from _pairs(name, heads, q, k, v, last_part)
        return


@dataclass(frozen=True)
class _Layer:
    """A linear layer: the axis of its weight that its outputs lie on, and how many outputs and inputs there are."""

    weight: str
    axis: int
    size: int
    inputs: int
    bias: str | None


@dataclass(frozen=True)
class _Part:
    """The part of a weight that belongs to all heads of one kind, ``size`` units from ``start`` on."""

    weight: str
    axis: int
    start: int
    size: int
    bias: str | None


def _layer(module: Any, prefix: str, key: str) -> _Layer | None:
    """Return a linear layer of that name; a transposed one as GPT-2 has is told by its class's name."""
    layer = getattr(module, key, None)
    weight = getattr(layer, "weight", None)
    if not isinstance(layer, nn.Module) or not isinstance(weight, nn.Parameter) or weight.ndim != 2:
        return None
    if isinstance(layer, nn.Linear):
        axis = 0
    elif type(layer).__name__ == "Conv1D":
        axis = 1
    else:
        return None
    bias = f"{prefix}{key}.bias" if isinstance(getattr(layer, "bias", None), nn.Parameter) else None
    return _Layer(f"{prefix}{key}.weight", axis, weight.shape[axis], weight.shape[1 - axis], bias)


def _pairs(name: str, heads: int, q: _Part, k: _Part, v: _Part, out: _Part | None) -> Iterator[HeadPair]:
    if q.size % heads:
        return
    size = q.size // heads
    for what, one, two in (("query, key", q, k), ("value, output", v, out)):
        for head in range(heads if two is not None else 0):
            assert two is not None
            sides = [
                HeadFactor(
                    part.weight,
                    part.axis,
                    part.start + head * size,
                    size,
                    part.bias,
                    part.start + head * size,
                )
                for part in (one, two)
            ]
            yield HeadPair(name, what, head, *sides)
