"""Checks of a model and its loss on the first samples, when an objective is built.

What they refuse would otherwise be a wrong number: a loss that does not depend on what is measured, or depends on it
where autograd does not see it; a forward pass that changes the model or computes in reduced precision. With
``check="full"`` the gradient is also compared with differences of the loss; ``check="none"`` leaves the checks out.
"""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.autograd.double_backward import graph_nodes, once_differentiable_name, reduced_precision
from sharpscope.autograd.module_state import SavedState
from sharpscope.autograd.ranks import out_of_memory
from sharpscope.autograd.vectors import dot, norm
from sharpscope.errors import InputError, UnusedParameterWarning
from sharpscope.objective.batches import first_rows, tensors_in
from sharpscope.objective.chunking import counting_held_bytes
from sharpscope.objective.evaluator import Evaluator
from sharpscope.objective.graphs import gradients
from sharpscope.objective.mean_loss import checked_loss
from sharpscope.objective.product_checks import STEPS, WRONG, contradicts, first_line, theta, typical
from sharpscope.seeding import generator

SAMPLES, FEW = 64, 16
"""Samples that the checks look at, and that differences of the loss look at; both cost little beside all the data."""

MOST_PARAMETERS = 1_000_000
"""Parameters up to which differences of the loss are taken without ``check="full"``: six passes of `FEW` samples in
float64, a few milliseconds."""

NEAR = {torch.float32: 0.1, torch.float64: 0.01}
"""How far from the measured point differences are taken, relative to the size of a typical parameter: farther than
the steps, so that no kink lies exactly there."""


@dataclass
class Probe:
    """A forward pass of the first samples on private copies of everything that the model may write to."""

    batch: Any
    leaves: dict[str, Tensor]
    originals: dict[int, str]
    outputs: Any
    value: Tensor
    held_per_sample: float | None


def check_function(evaluator: Evaluator) -> Probe:
    """Evaluate the first samples, see what the model does to what it is given, and check the first derivative.

    Raises `InputError` where the model writes to its parameters, computes in reduced precision, reads parameters past
    the module, or depends on a measured parameter that autograd does not reach. Warns of parameters without effect.
    """
    batch = first_rows(evaluator.batch_to_check(), SAMPLES)
    try:
        probe = _probe(evaluator, batch)
    except Exception:
        if evaluator.loss is not None:
            raise
        probe = _probe_whole(evaluator)  # a batch loss need not allow part of a batch
    if evaluator.check != "none":
        _check_graph(evaluator, probe)
        _check_reached(evaluator, probe)
        if evaluator.check == "full" or evaluator.size <= MOST_PARAMETERS:
            _check_slope(evaluator, probe, move=False)
    if evaluator.check == "full":
        _check_slope(evaluator, probe, move=True)
    return probe


def _probe_whole(evaluator: Evaluator) -> Probe:
    """Evaluate the first batch of a batch loss; where that fails, say so if it would not in training mode."""
    batch = evaluator.batch_to_check()
    try:
        return _probe(evaluator, batch)
    except InputError:
        raise
    except Exception as error:
        training = copy(evaluator)
        training.mode, training.dropout = "train", True
        try:
            _probe(training, batch)
        except Exception:
            raise error from None
        raise InputError(
            f"batch_loss must work in the declared mode, with mode={evaluator.mode!r} and dropout off it "
            f"raises {type(error).__name__} ({first_line(error)}) and in training it does not, as detection models "
            "return losses only then; pass mode='train', dropout=True"
        ) from error


def _probe(evaluator: Evaluator, batch: Any) -> Probe:
    """Return the first samples' loss with its graph; note whether the model writes to its inputs."""
    apart = copy(evaluator)
    apart.copies_batches = True
    leaves = {name: leaf.clone() for name, leaf in evaluator.leaves(grad=False).items()}

    def forward(saved: SavedState) -> Probe:
        everything = {
            name: leaves[name].requires_grad_()
            if name in leaves
            else evaluator.cast(evaluator.own_parameter(name, p)).clone()
            for name, p in saved.parameters.items()
        }
        evaluator.substitute(saved, everything)
        placed = apart.placed(batch)
        given = {**everything, **{str(i): tensor for i, tensor in enumerate(tensors_in(placed))}}
        versions = {name: tensor._version for name, tensor in given.items()}
        held = None
        if evaluator.loss is None:
            outputs, (value, _) = None, evaluator.mean_loss(placed)
        else:
            storages = {tensor.untyped_storage().data_ptr() for tensor in leaves.values()}
            with counting_held_bytes(storages) as counted:
                outputs, mean = evaluator.outputs_and_loss(placed)
            held = sum(counted) / len(placed[1])
            value = checked_loss(mean(outputs))
        written = [name for name, tensor in given.items() if tensor._version != versions[name]]
        evaluator.copies_batches = any(name not in everything for name in written)
        if evaluator.check != "none" and (parameters := [name for name in written if name in everything]):
            raise InputError(
                f"a forward pass must leave its parameters as they are, this one writes to {_some(parameters)} in "
                "place; compute the changed values as new tensors (nn.Embedding(max_norm=...) as a module is allowed)"
            )
        originals = {id(p): name for name, p in saved.parameters.items()}
        return Probe(batch, leaves, originals, outputs, value, held)

    return evaluator.measuring(forward, grad=True)


def _check_graph(evaluator: Evaluator, probe: Probe) -> None:
    """Look at every node of the loss's graph."""
    past, elsewhere = set(), False
    leaves = {id(leaf) for leaf in probe.leaves.values()}
    for node in graph_nodes([probe.value]):
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in probe.originals:
            past.add(probe.originals[id(variable)])
        elif variable is not None and id(variable) not in leaves:
            elsewhere = True
        evaluator.once_differentiable = evaluator.once_differentiable or once_differentiable_name(node)
        if (dtype := reduced_precision(node)) is not None:
            raise InputError(
                f"the loss must be computed in {str(evaluator.dtype).removeprefix('torch.')}, the model computes in "
                f"{str(dtype).removeprefix('torch.')} inside its forward pass; leave out autocast or the cast there"
            )
    if past:
        raise InputError(
            f"parameters must be read through the modules that hold them, {_some(sorted(past))} is read past its "
            "module and would count as a constant; use self.layer.weight in forward, not a tensor kept elsewhere"
        )
    if not any(
        id(node.variable) in leaves for node in graph_nodes([probe.value]) if hasattr(node, "variable")
    ):
        hint = (
            "it depends on other tensors that require gradients, perhaps another copy of the model"
            * elsewhere
        )
        raise InputError(
            "the loss must depend on the measured parameters, autograd finds no way from it to any of them; "
            + (hint or "look for no_grad, detach, or a loss that ignores the model")
        )


def _check_reached(evaluator: Evaluator, probe: Probe) -> None:
    """Refuse parameters that matter although autograd does not reach them; warn of those that do not matter."""

    def slopes_of(saved: SavedState) -> tuple[Tensor | None, ...]:
        evaluator.substitute(saved, probe.leaves)  # a checkpointed part is evaluated anew
        return torch.autograd.grad(
            probe.value, list(probe.leaves.values()), retain_graph=True, allow_unused=True
        )

    try:
        slopes = evaluator.measuring(slopes_of, grad=True)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise InputError(
            f"the loss must have a gradient by torch.autograd.grad, torch says: {first_line(error)}"
        ) from error
    unreached = [name for name, slope in zip(probe.leaves, slopes, strict=True) if slope is None]
    if not unreached:
        return
    draws = generator("check", "unreached")
    moved = {
        name: leaf.detach() + _noise(leaf, draws) * (leaf.detach().abs().mean() + 0.1)
        for name, leaf in probe.leaves.items()
        if name in unreached
    }
    with torch.no_grad():
        before = float(probe.value)
    after = float(_value_at(evaluator, probe, {**probe.leaves, **moved}).detach())
    if not abs(after - before) <= 1e-5 * abs(before):
        raise InputError(
            f"autograd must see every way in which the loss depends on a measured parameter, it changes with "
            f"{_some(unreached)} where autograd sees none; look for detach, no_grad, .data or "
            "checkpoint(use_reentrant=True), or leave them out with params="
        )
    warnings.warn(
        f"the loss of the first samples does not depend on {_some(unreached)}; their entries of gradients and "
        "products are zero. Leave them out with params= if they are unused",
        UnusedParameterWarning,
        stacklevel=5,
    )


def _check_slope(evaluator: Evaluator, probe: Probe, *, move: bool) -> None:
    """Compare the gradient along a direction with differences of the loss, at points near the measured one.

    Near, since at the point itself a kink is likelier: many a ReLU's input is exactly zero where biases and pixels
    are. ``move`` gives the model's own parameters the values too, in their own precision, so that a use of them past
    the module is seen; else everything is in float64. Two directions must agree that the gradient is wrong.
    """
    parameters = dict(evaluator.model.named_parameters())
    if move and evaluator.layout.shards is not None:
        return  # no rank has whole parameters to move
    if move and any(parameters[name].dtype != evaluator.dtype for name in evaluator.layout.names):
        return  # their own precision is too coarse for differences
    twin = evaluator if move else evaluator.in_precision(torch.float64)
    batch = probe.batch if evaluator.loss is None else first_rows(probe.batch, FEW)
    for number in range(2):
        draws = generator("check", "slope", number)
        try:
            found, expected = _slopes(twin, batch, draws, move)
        except (RuntimeError, TypeError, ValueError):  # the model works in its own precision only
            return
        if not contradicts(found, expected, WRONG[twin.dtype]):
            return
    raise InputError(
        f"the gradient must be the derivative of the loss, its slope along a direction is {float(expected):.6g} "
        f"where differences of the loss give {float(found[1]):.6g}; part of a parameter counts as constant (detach, "
        "no_grad, .data), or a backward or a hook changes gradients"
    )


def _slopes(
    evaluator: Evaluator, batch: Any, draws: torch.Generator, move: bool
) -> tuple[list[Tensor], Tensor]:
    """Return differences of the loss for the two steps of `STEPS`, and the slope by autograd, each of shape (1,)."""
    apart = copy(evaluator)
    apart.copies_batches = True
    measured = theta(evaluator)
    scale = typical(measured)
    noise = evaluator.layout.normal_rows(2, draws).to(measured.device, measured.dtype)  # (2, size)
    centre = measured + NEAR[evaluator.dtype] * scale * noise[0]

    def leaves_at(point: Tensor) -> dict[str, Tensor]:
        return {name: part.detach().requires_grad_() for name, part in evaluator.layout.held(point).items()}

    def slope_at(leaves: dict[str, Tensor]) -> Tensor:
        def of_chunk(placed: Any, weights: Tensor | None) -> Tensor:
            return evaluator.layout.join(
                gradients(apart.mean_loss(placed)[0], list(leaves.values()))
            ).detach()

        return apart.on_chunk(of_chunk, leaves, batch, move=move)

    def value_at(point: Tensor) -> float:
        def of_chunk(placed: Any, weights: Tensor | None) -> float:
            return float(apart.mean_loss(placed)[0].detach())

        return apart.on_chunk(of_chunk, leaves_at(point), batch, move=move)

    slope = slope_at(leaves_at(centre))
    along = _without_padding(evaluator, noise[1] / norm(noise[1]) + slope / max(norm(slope), 1e-30))
    steps = [step * scale * len(measured) ** 0.5 for step in STEPS[evaluator.dtype]]
    found = [
        torch.tensor(
            [(value_at(centre + s * along) - value_at(centre - s * along)) / (2 * s)], dtype=torch.float64
        )
        for s in steps
    ]
    return found, dot(slope, along).reshape(1)


def _value_at(evaluator: Evaluator, probe: Probe, leaves: dict[str, Tensor]) -> Tensor:
    """Return the first samples' loss at other leaves."""

    def of_chunk(placed: Any, weights: Tensor | None) -> Tensor:
        return evaluator.mean_loss(placed, weights)[0]

    apart = copy(evaluator)
    apart.copies_batches = True
    return apart.on_chunk(of_chunk, {name: leaf.detach() for name, leaf in leaves.items()}, probe.batch)


def _without_padding(evaluator: Evaluator, vector: Tensor) -> Tensor:
    """Return a vector (size,) without entries for padding rows of look-up tables, which get no gradient by design."""
    layout = evaluator.layout
    parts = layout.held(vector.clone())
    for name, module in evaluator.model.named_modules():
        padding, weight = getattr(module, "padding_idx", None), f"{name}.weight"
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and padding is not None and weight in parts:
            kept = torch.ones(dict(zip(layout.names, layout.shapes, strict=True))[weight])
            kept[padding] = 0
            if layout.shards is not None:
                piece = layout.shards.pieces[layout.names.index(weight)]
                kept = piece.taken(kept, layout.shards.ranks.rank).view(piece.own_shape)
            parts[weight].mul_(kept.to(vector.device))
    return layout.join(parts.values())


def _noise(leaf: Tensor, draws: torch.Generator) -> Tensor:
    return torch.randn(leaf.shape, generator=draws, dtype=torch.float64).to(leaf.device, leaf.dtype)


def _some(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
