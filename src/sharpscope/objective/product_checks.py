"""Checks that products are those with the derivative of the gradient, on a few samples, before the first product.

Products with random vectors must be symmetric; where they are not, where one is exactly zero, and with
``check="full"``, a finite difference of the gradient decides. What is refused would otherwise be a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpscope.autograd.convolution import replace_convolutions
from sharpscope.autograd.ranks import out_of_memory
from sharpscope.autograd.vectors import dot, norm
from sharpscope.errors import InputError
from sharpscope.objective.batches import first_rows, tensors_in
from sharpscope.objective.evaluator import Evaluator, Matrix
from sharpscope.objective.graphs import ChunkProduct, GaussNewtonOfChunk, HessianOfChunk, gradients
from sharpscope.seeding import generator

FEW = 32
"""Samples that the checks look at, of a batch loss at most an eighth of the first batch: their products cost little
beside one of all the data."""

ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Asymmetry of products, relative to their size, up to which it is rounding. A larger one in float32 is looked at
again in float64. The largest over the models of tests/objective/test_architectures.py is 2e-11 in float64."""

STEPS = {torch.float32: (1e-2, 2.5e-3), torch.float64: (1e-5, 2.5e-6)}
"""Two steps of finite differences, relative to the size of a typical parameter, in float32 and float64. Where two
differences agree the function is smooth; where they do not (a kink, rounding) nothing is concluded."""

WRONG = {torch.float32: 5e-2, torch.float64: 1e-3}
"""Relative difference between a derivative and finite differences from which the derivative is wrong."""


def check_products(evaluator: Evaluator, matrix: Matrix) -> float:
    """Check products with the Hessian or Gauss-Newton matrix of the first samples, once for every function.

    Two products with random vectors must satisfy uᵀHv = vᵀHu. Where they do not, where a product is exactly zero and
    with ``check="full"``, a finite difference of the gradient decides. Returns the share of the data looked at.
    """
    if evaluator.once_differentiable is not None:
        raise InputError(
            f"products need operations that can be differentiated twice, {evaluator.once_differentiable} is marked "
            "once_differentiable; write its backward in differentiable operations and drop the mark"
        )
    batch = evaluator.batch_to_check()
    whole = max((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), default=0)
    batch = first_rows(batch, FEW if evaluator.loss is not None else max(2, min(FEW, whole // 8)))
    rows = max((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), default=0)
    draws = generator("check", "products")
    block = torch.stack(
        [
            evaluator.layout.normal(draws, torch.float64).to(evaluator.device, evaluator.dtype)
            for _ in range(2)
        ]
    )  # (2, size); drawn one by one, for the sake of memory
    try:
        images, graph = _products(evaluator, batch, matrix, block)
    except RuntimeError as error:
        if out_of_memory(error) or isinstance(error, InputError):
            raise
        raise InputError(
            "products need operations that can be differentiated twice, "
            f"torch says: {first_line(error)}; use another implementation of that operation"
        ) from error
    if (
        isinstance(graph, GaussNewtonOfChunk)
        and graph.outputs.requires_grad
        and not any(p.requires_grad for p in graph.pulled)
    ):
        raise InputError(
            "products with the Gauss-Newton matrix need a backward that is differentiable, this model's gives "
            "gradients without a graph; write it in differentiable operations"
        )
    if bool(torch.isfinite(images).all()):
        _check_images(evaluator, batch, matrix, block, images)
    return min(rows / max(whole, 1), 1.0) / max(evaluator.batches.count, 1)


def _check_images(evaluator: Evaluator, batch: Any, matrix: Matrix, block: Tensor, images: Tensor) -> None:
    asymmetry, zero = _asymmetry(block, images), not bool(images.any())
    if asymmetry <= ASYMMETRY[evaluator.dtype] and not zero and evaluator.check != "full":
        return
    if evaluator.dtype != torch.float64:
        evaluator, block = evaluator.in_precision(torch.float64), block.double()
        try:
            images, _ = _products(evaluator, batch, matrix, block)
        except Exception:  # the model works in float32 only
            if asymmetry > 0.05:
                raise InputError(_asymmetric(matrix, asymmetry)) from None
            return
        asymmetry = _asymmetry(block, images)
    if asymmetry <= ASYMMETRY[torch.float64] and not zero and evaluator.check != "full":
        return
    if matrix == "ggn":
        wrong = asymmetry > 1e-3
    else:
        found = _gradient_differences(evaluator, batch, block[0])
        wrong = contradicts(found, images[0], WRONG[torch.float64])
    if wrong and asymmetry > ASYMMETRY[torch.float64]:
        raise InputError(_asymmetric(matrix, asymmetry))
    if wrong:
        raise InputError(
            f"products must be derivatives of the gradient, one with a random vector has norm {norm(images[0]):.4g} "
            f"where differences of the gradient give {norm(found[1]):.4g}; a backward uses values without their "
            "graph (a gradient made in the forward pass, .detach(), NumPy): write it in differentiable operations"
        )


def _products(evaluator: Evaluator, batch: Any, matrix: Matrix, block: Tensor) -> tuple[Tensor, ChunkProduct]:
    """Return products (k, size) with the matrix of the first samples, uncounted, and its graph."""
    leaves = evaluator.leaves()
    of_chunk: Callable[[Any, Tensor | None], tuple[HessianOfChunk | GaussNewtonOfChunk, float]] = (
        evaluator.hessian_of(leaves) if matrix == "hessian" else evaluator.gauss_newton_of(leaves)
    )
    try:
        graph, _ = evaluator.on_chunk(of_chunk, leaves, batch, prepare=replace_convolutions)
    except Exception:
        if evaluator.loss is not None:
            raise
        batch = evaluator.batch_to_check()
        graph, _ = evaluator.on_chunk(of_chunk, leaves, batch, prepare=replace_convolutions)
    own = evaluator.layout.own_rows(block)
    images = torch.zeros_like(own)
    evaluator.add_products(images, graph, own, 1.0)
    return evaluator.layout.vectors(images), graph


def _gradient_differences(evaluator: Evaluator, batch: Any, along: Tensor) -> list[Tensor]:
    """Return central differences of the first samples' gradient along a vector, for the two steps of `STEPS`."""
    centre = theta(evaluator)
    scale = typical(centre) / float(along.abs().mean())

    def slope(step: float) -> Tensor:
        moved = evaluator.layout.held(centre + step * along)
        leaves = {name: value.detach().requires_grad_() for name, value in moved.items()}
        points = list(leaves.values())

        def of_chunk(placed: Any, weights: Tensor | None) -> Tensor:
            value, _ = evaluator.mean_loss(placed, weights)
            return evaluator.layout.join(gradients(value, points)).detach()

        return evaluator.on_chunk(of_chunk, leaves, batch)

    return [
        (slope(step * scale) - slope(-step * scale)) / (2 * step * scale) for step in STEPS[evaluator.dtype]
    ]


def contradicts(differences: list[Tensor], derivative: Tensor, least: float) -> bool:
    """Return whether finite differences agree with each other and not with the derivative."""
    coarse, fine = differences
    off_by = norm(fine - derivative)
    return off_by > least * max(norm(fine), norm(derivative)) and norm(fine - coarse) < 0.1 * off_by


def _asymmetry(block: Tensor, images: Tensor) -> float:
    """Return |uᵀHv − vᵀHu| relative to the typical size of uᵀHv, for the rows u, v of a block (2, size)."""
    (u, v), (hu, hv) = block, images
    lengths = [float(dot(vector, vector)) ** 0.5 for vector in (u, v, hu, hv)]
    size = (lengths[0] * lengths[3] + lengths[1] * lengths[2]) / (2 * len(u) ** 0.5)
    return abs(float(dot(u, hv) - dot(v, hu))) / size if size > 0 else 0.0


def theta(evaluator: Evaluator) -> Tensor:
    """Return the parameters as a flat vector (size,), whatever coordinates the evaluator's vectors have."""
    return evaluator.layout.join(evaluator.leaves(grad=False).values())


def typical(point: Tensor) -> float:
    """Return the size of a typical parameter, which steps of finite differences are relative to."""
    return max(float(point.abs().mean()), 1e-3)


def _asymmetric(matrix: str, asymmetry: float) -> str:
    return (
        f"products with the {'Hessian' if matrix == 'hessian' else 'Gauss-Newton matrix'} must be symmetric, uᵀHv "
        f"and vᵀHu differ by {asymmetry:.2g} of their size on the first samples; a backward is not differentiable (a "
        "custom autograd.Function, NumPy, a detached value): write it in differentiable operations"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, to be quoted in a sentence."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
