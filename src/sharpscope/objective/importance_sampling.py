"""Draw a part of the data in which samples that may matter more are more likely, and are weighed accordingly.

In a trained network few samples make most of the curvature (on a narrow VGG-11 that has learned 90 % of 2 000 images
a twentieth of them makes 82 % of λ_max), so that a uniform draw is no likeness of the whole. How much a sample can
contribute is told by the size of its own gradient, for which a bound costs less than a gradient of the whole: a layer
with inputs a and outputs z has a gradient of at most ‖a‖ ‖∂ℓ/∂z‖, and of just that where it is linear and a and z are
vectors. A sample may be curved without being steep (least squares, well fitted): so the same bound counts a second
time with the slope ∂ℓ/∂f at the model's outputs exchanged for the size of the loss's curvature ∂²ℓ/∂f² there. Draws
with probabilities proportional to such sizes are the classical remedy for heavy tails (Hansen & Hurwitz 1943; for
gradients of networks Katharopoulos & Fleuret 2018).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sharpscope.autograd.convolution import replace_convolutions
from sharpscope.errors import InputError
from sharpscope.objective.chunking import retry_with_smaller_chunks
from sharpscope.objective.evaluator import Evaluator
from sharpscope.objective.graphs import ChunkProduct, HessianOfChunk
from sharpscope.objective.mean_loss import checked_loss
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator

UNIFORM = 0.1
"""Share of the draw that goes by number alone, for samples that matter more than their score says."""

SURE = 0.7
"""Inclusion probability above which a sample is taken for certain."""

LEAST, FEW = 256, 500
"""No part of the data is smaller than the first, nor than the second unless that is more than a quarter."""


Build = Callable[..., Iterator[tuple[ChunkProduct, float]]]
"""Takes leaves and how many chunks to skip, and yields (the graph of a chunk, how much it counts)."""


class KeepsGraphs(Protocol):
    """What keeps the graphs of products with the Hessian of all the data for later."""

    def keep_all(self, build: Build) -> bool:
        """Keep the graphs that a function builds, where all of them fit; return whether."""


def importance_scores(obj: Objective, operator: KeepsGraphs | None = None) -> Tensor | None:
    """Return what share of the loss's slope and curvature every sample may make (N,), in float64, summing to one.

    Half goes by a bound for the size of the sample's gradient, √(Σ ‖a‖² ‖∂ℓ/∂z‖²) over all layers with measured
    parameters, a their inputs and z their outputs for that sample, half by the same with ‖∂²ℓ/∂f²‖ in place of
    ‖∂ℓ/∂f‖ at the model's outputs f: what `draw` may go by. It costs about as much as ∇L, or next to nothing where an
    ``operator`` keeps the graphs of all the data, which are then built on the way. None where samples interact or
    cannot be told apart, and where a bound is not to be had.
    """
    if not obj.evaluator.separable or obj.evaluator.weights is not None:
        return None
    bounds = _of_all_samples(obj.evaluator, operator)
    if bounds is None:
        return None
    shares = [s / s.sum() for s in bounds.sqrt().T.contiguous() if float(s.sum()) != 0]
    if not shares or not all(bool(torch.isfinite(s).all()) for s in shares):
        return None
    return torch.stack(shares).mean(0)


def _of_all_samples(evaluator: Evaluator, operator: KeepsGraphs | None) -> Tensor | None:
    """Return the bounds for all samples, in order (N, 2); None where some cannot be had."""
    if evaluator.distribution is not None:
        nothing = torch.zeros(0, 2, dtype=torch.float64)
        return evaluator.distribution.rows_of_all(partial(_bounds, evaluator), nothing)
    beside: list[Tensor] = []
    if operator is not None and operator.keep_all(partial(_graphs_and_bounds, evaluator, beside)):
        found: list[Tensor] | None = beside
    else:
        found = _bounds(evaluator)
    return torch.cat(found) if found else None


@retry_with_smaller_chunks
def _bounds(evaluator: Evaluator) -> list[Tensor] | None:
    """Return bounds for the squared sizes of every sample's slope and curvature (n, 2), chunk by chunk."""

    def of_chunk(batch: Any, weights: Tensor | None) -> Tensor | None:
        forward = _WatchedForward(evaluator, batch, weights)
        if not forward.tells_samples_apart:
            return None
        slope, curvature = slope_and_curvature(forward.loss, forward.outputs)
        layers = [z for _, z in forward.layers]
        parts = torch.autograd.grad(forward.outputs, layers, slope, allow_unused=True, materialize_grads=True)
        bounds = forward.bounds([sample_sizes(g) for g in parts], sample_sizes(slope), curvature)
        # weights are those of a chunk that is evaluated for nothing, in step with other ranks
        return bounds if weights is None else bounds[:0]

    found = []
    for bounds in evaluator.each_chunk(of_chunk, evaluator.leaves(grad=False)):
        if bounds is None:
            return None
        found.append(bounds)
    return found


def _graphs_and_bounds(
    evaluator: Evaluator, found: list[Tensor], leaves: dict[str, Tensor], skip: int = 0
) -> Iterator[tuple[HessianOfChunk, float]]:
    """Yield what `Evaluator.hessian_graphs` does and leave the bounds of `_bounds` in ``found``, NaN without any.

    The slopes at the layers' outputs pass by while the gradient's graph is built.
    """
    points = list(leaves.values())

    def of_chunk(batch: Any, weights: Tensor | None) -> tuple[HessianOfChunk, float, Tensor]:
        forward = _WatchedForward(evaluator, batch, weights)
        sizes = [torch.zeros(len(z), dtype=torch.float64) for _, z in forward.layers]

        def note(size: Tensor, slope: Tensor) -> None:
            size.copy_(sample_sizes(slope))

        handles = [
            z.register_hook(partial(note, size)) for size, (_, z) in zip(sizes, forward.layers, strict=True)
        ]
        value = checked_loss(forward.loss(forward.outputs))
        graph = HessianOfChunk.of(value, points, evaluator.layout.own)
        for handle in handles:  # else products would be taken for slopes
            handle.remove()
        if not forward.tells_samples_apart:
            return graph, forward.loss.weight, torch.full((forward.n, 2), math.nan, dtype=torch.float64)
        slope, curvature = slope_and_curvature(forward.loss, forward.outputs)
        return (
            graph,
            forward.loss.weight,
            forward.bounds([len(size) ** 2 * size for size in sizes], sample_sizes(slope), curvature),
        )

    del found[skip:]
    evaluator.verify("hessian")
    for graph, weight, bounds in evaluator.each_chunk(
        of_chunk, leaves, skip=skip, prepare=replace_convolutions
    ):
        found.append(bounds)
        yield graph, weight


class _WatchedForward:
    """A chunk's forward pass with the layers that hold measured parameters: [(‖a‖² (n,), z)], see the module."""

    def __init__(self, evaluator: Evaluator, batch: Any, weights: Tensor | None) -> None:
        calls = watch_layers(evaluator.model, evaluator.layout.names)
        self.outputs, self.loss = evaluator.own_outputs_and_loss(batch, weights)
        self.n = len(self.loss.targets)
        self.layers = [(size, z) for size, z in calls if len(size) == len(z) == self.n]

    @property
    def tells_samples_apart(self) -> bool:
        """Whether bounds are to be had."""
        rows = isinstance(self.outputs, Tensor) and len(self.outputs) == self.n
        return bool(rows and self.outputs.requires_grad and self.layers)

    def bounds(self, slopes: list[Tensor], slope: Tensor, curvature: Tensor) -> Tensor:
        """Return the bounds (n, 2) from ‖∂ℓ/∂z‖² of every layer (n,), and ‖∂ℓ/∂f‖² and ‖∂²ℓ/∂f²‖² (n,)."""
        bound = torch.stack([size * other for (size, _), other in zip(self.layers, slopes, strict=True)]).sum(
            0
        )
        return torch.stack([bound, (bound / slope * curvature).nan_to_num(0.0, posinf=0.0)], 1)


def part_size(obj: Objective, fraction: float) -> int | None:
    """Return how many samples `draw` draws, where it draws single ones and they are no more than half."""
    if not obj.evaluator.separable:
        return None
    count = max(round(fraction * obj.n_samples), LEAST, min(FEW, int(obj.n_samples) // 4))
    return count if 2 * count <= obj.n_samples else None


def draw(obj: Objective, seed: int, fraction: float = 0.05, scores: Tensor | None = None) -> Objective | None:
    """Return the objective over a random part of the data, None where no useful part can be drawn.

    Samples are drawn where none depends on another, whole batches otherwise: a fraction of them, and at least a
    quarter or 500, whichever is less; a part of more than half the data is no saving and gives None. With
    ``scores`` (N,), see `importance_scores`, they are drawn and weighed by these: in expectation the part's loss is
    that of all the data either way.
    """
    if obj.evaluator.weights is not None:
        raise InputError("a part drawn with weights cannot be drawn from again; draw from the whole")
    if not obj.evaluator.separable:
        return _some_batches(obj, seed, fraction)
    count = part_size(obj, fraction)
    if count is None:
        return None
    drawn = stratified_sample(scores, int(obj.n_samples), count, seed)
    if scores is None:
        return obj.subset(drawn[0][0])
    weights = torch.cat([torch.full((len(i),), w, dtype=torch.float64) for i, w in drawn])
    return obj.subset(torch.cat([indices for indices, _ in drawn]), weights)


def _some_batches(obj: Objective, seed: int, fraction: float) -> Objective | None:
    batches, total = obj.evaluator.batches, obj.evaluator.batch_count
    count = max(round(fraction * total), math.ceil(total * LEAST / obj.n_samples), 1)
    if 2 * count > total:
        return None
    chosen = set(torch.randperm(total, generator=generator("sample", seed))[:count].tolist())
    first = obj.evaluator.batches_before
    return obj.with_data([batch for index, batch in enumerate(batches, first) if index in chosen])


def watch_layers(model: nn.Module, names: Collection[str]) -> list[tuple[Tensor, Tensor]]:
    """Collect (`sample_sizes` of the inputs (n,), outputs) of every call of modules that hold a named parameter.

    Outputs come with a graph even where nothing before them has one. The hooks stay until the model's attributes are
    restored (`sharpscope.autograd.module_state.SavedState`).
    """
    holders = {name.rpartition(".")[0] for name in names}
    calls: list[tuple[Tensor, Tensor]] = []

    def watch(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
        if not (isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.ndim):
            return None
        if not outputs.requires_grad:
            outputs = outputs.detach().requires_grad_().clone()  # which may be changed in place
        first = (
            inputs[0]
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim
            else outputs.new_ones(outputs.shape[:1])
        )
        calls.append((sample_sizes(first), outputs))
        return outputs

    for name, module in model.named_modules():
        if name in holders:
            vars(module)["_forward_hooks"] = OrderedDict(module._forward_hooks)
            module.register_forward_hook(watch)
    return calls


def sample_sizes(tensor: Tensor) -> Tensor:
    """Return ‖t_i‖² for every sample (n,) of a tensor (n, ...) in float64; one for each where it holds no numbers."""
    if not tensor.is_floating_point():
        return torch.ones(len(tensor), dtype=torch.float64)
    return tensor.detach().reshape(len(tensor), -1).square().sum(1).double().cpu()


def slope_and_curvature(loss: Callable[[Tensor], Tensor], outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return n ∂ℓ/∂f, f the outputs (n, ...) and ℓ their mean loss, and about ‖∂²ℓ/∂f²‖_F² of every sample (n,).

    The Frobenius norm is that of products with vectors of signs, one for each bit of an output's number: any two
    outputs differ in one of them, so that no curvature between two is overlooked.
    """
    free = outputs.detach().requires_grad_()
    (slope,) = torch.autograd.grad(len(free) * loss(free), free, create_graph=True)
    sizes = torch.zeros(len(free), dtype=torch.float64)
    if slope.requires_grad:
        number = torch.arange(free[0].numel(), device=free.device).reshape(free.shape[1:])
        bits = max(free[0].numel() - 1, 1).bit_length()
        for bit in range(bits):
            signs = (1 - 2 * ((number >> bit) & 1)).to(free.dtype).expand_as(free)
            (image,) = torch.autograd.grad(slope, free, signs, retain_graph=True, materialize_grads=True)
            sizes += sample_sizes(image) / bits
    return slope.detach(), sizes


def stratified_sample(scores: Tensor | None, total: int, count: int, seed: int) -> list[tuple[Tensor, float]]:
    """Draw about ``count`` of ``total`` samples: [(indices (m,), the number of samples that each stands for)].

    Without scores (total,) uniformly. With them a sample's probability is a mixture of one part proportional to
    them and one uniform part; samples of about the same probability, within a factor of two, form a stratum and count
    alike in it. Every sample has a random number of its own for a given seed, so that draws by scores that differ
    little have most samples in common (permanent random numbers, Ohlsson 1995).
    """
    rank = torch.rand(total, generator=generator("sample", seed), dtype=torch.float64)
    if scores is None:
        return [(rank.argsort(stable=True)[:count], total / count)]
    share = UNIFORM / total + (1 - UNIFORM) * scores / scores.sum()  # (total,), sums to one
    sure = torch.zeros(total, dtype=torch.bool)
    while True:
        chance = (count - int(sure.sum())) * share / share[~sure].sum()
        more = ~sure & (chance > SURE)
        if not bool(more.any()):
            break
        sure |= more
    level = torch.where(sure, -1, torch.floor(-torch.log2(chance)).long())
    drawn = []
    for one in level.unique().tolist():
        members = (level == one).nonzero()[:, 0]
        take = len(members) if one == -1 else max(round(float(chance[members].sum())), min(2, len(members)))
        take = min(take, len(members))
        drawn.append((members[rank[members].argsort(stable=True)[:take]], len(members) / take))
    return drawn
