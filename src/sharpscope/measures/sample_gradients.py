"""Gradients of single samples, and the measures that are made of their spread."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from sharpscope import curvature
from sharpscope.autograd.module_state import SavedState
from sharpscope.autograd.vectors import dot
from sharpscope.errors import InputError, require_at_least, require_one_of
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.outputs import require_outputs
from sharpscope.measures.registry import register
from sharpscope.objective.evaluator import Evaluator
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator

Labels = Literal["model", "data"]

WEIGHTS = 2e7
"""Most entries of the sample gradients of one batched pass."""

SMALLEST_EIGENVALUE = 1e-6
"""Share of the Fisher matrix's largest eigenvalue below which the model does not depend on a direction."""

_NOT_BATCHED = (RuntimeError, ValueError, TypeError, NotImplementedError)
"""What ``torch.vmap`` raises where a model branches on values or writes in place."""


def sample_gradients(obj: Objective, indices: Tensor) -> Iterator[Tensor]:
    """Yield blocks of ∇ℓ_i (k, size) of chosen samples i (m,), in order; batched where the model allows it."""
    _require_single_samples(obj)
    inputs, targets = obj.evaluator.tensors()
    theta = obj.flat()
    for part in indices.split(max(1, min(256, int(WEIGHTS / obj.size)))):
        pair = obj.evaluator.placed((inputs[part.to(inputs.device)], targets[part.to(targets.device)]))
        try:
            block = _batched(obj.evaluator, theta, *pair)
        except _NOT_BATCHED:
            block = torch.stack([obj.subset(i[None]).gradient() for i in part])
        yield block


def _require_single_samples(obj: Objective) -> None:
    require_outputs(obj, "a measure of single samples")
    if not obj.evaluator.separable:
        raise InputError(
            "gradients of single samples need samples that do not interact, received an objective in train mode; "
            "use mode='eval'"
        )


def _batched(evaluator: Evaluator, theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return ∇ℓ_i (n, size) of all samples in one pass."""
    loss: Any = evaluator.loss

    def gradients(saved: SavedState) -> Tensor:
        def of_sample(point: Tensor, x: Tensor, y: Tensor) -> Tensor:
            evaluator.substitute(saved, evaluator.layout.split(point))
            value: Tensor = loss(evaluator.model(x[None]), y[None])
            return value

        found: Tensor = torch.vmap(torch.func.grad(of_sample), (None, 0, 0))(theta, inputs, targets)
        return found

    return evaluator.measuring(gradients, grad=True).detach()


def _chosen(obj: Objective, samples: int | None, seed: int) -> Tensor:
    """Return the indices of ``samples`` random samples, or of all."""
    total = int(obj.n_samples)
    if samples is None or samples >= total:
        return torch.arange(total)
    require_at_least("samples", samples, 2, "a standard error needs two")
    return torch.randperm(total, generator=generator("sample gradients", seed))[:samples]


def _mean_of_samples(
    measure: str, obj: Objective, draws: list[float], cost: CostMeter, protocol: dict[str, object]
) -> Estimate:
    """Return the mean over samples: exact where all the data was used, else with a standard error.

    The standard error has the finite-population factor √(1 − m/N), since samples are drawn without replacement.
    """
    total, share = cost.total(), len(draws) / obj.n_samples
    total["gradients"] = total.get("gradients", 0) + share
    protocol = {"samples": len(draws), **protocol, **obj.protocol}
    e = Estimate.of_samples(measure, draws, total, protocol, obj.fingerprint)
    if share >= 1:
        return Estimate(measure, e.value, cost=total, protocol=protocol, fingerprint=obj.fingerprint)
    assert e.stderr is not None
    error = e.stderr * math.sqrt(1 - share)
    return Estimate(
        measure, e.value, stderr=error, samples=e.samples, cost=total, protocol=protocol,
        fingerprint=obj.fingerprint,
    )  # fmt: skip


@register(
    "gradient_covariance_trace",
    title="Trace of the gradients' covariance",
    symbol="tr Cov g",
    definition="Mean squared distance of single samples' gradients from the full gradient: the noise of SGD with one "
    "sample.",
    source="Thomas et al. 2020; Jastrzębski et al. 2020",
    unit="(loss / parameter)²",
    cost="1 gradient, 512 gradients of single samples",
)
def gradient_covariance_trace(obj: Objective, samples: int | None = 512, seed: int = 0) -> Estimate:
    """Return (1/N) Σ_i ‖∇ℓ_i − ∇L‖² = E‖∇ℓ_i‖² − ‖∇L‖², over ``samples`` random samples (None: all).

    Raises `InputError` where samples interact or cannot be told apart.
    """
    cost = CostMeter(obj)
    indices, mean, draws = _chosen(obj, samples, seed), None, list[float]()
    for block in sample_gradients(obj, indices):
        mean = obj.gradient() if mean is None else mean
        draws += (block - mean).double().square().sum(1).tolist()
    return _mean_of_samples("gradient_covariance_trace", obj, draws, cost, {"seed": seed})


@register(
    "fisher_trace",
    title="Trace of the Fisher matrix",
    symbol="tr F",
    definition="Expected squared norm of a sample's gradient, the label drawn from the model.",
    source="Amari 1998; Jastrzębski et al. 2021; Kunstner et al. 2019 (on labels of the data)",
    unit="(loss / parameter)²",
    cost="16 to 400 products",
)
def fisher_trace(
    obj: Objective,
    labels: Labels = "model",
    rtol: float = 0.05,
    samples: int | None = None,
    max_samples: int = 400,
    seed: int = 0,
) -> Estimate:
    """Return tr F of the Fisher matrix F = E ∇ℓ ∇ℓᵀ.

    With ``labels="model"`` the expectation is over labels drawn from the model. For losses that are negative log
    likelihoods of an exponential family in the outputs (cross-entropy, half the squared error) F is the Gauss-Newton
    matrix, whose trace is estimated as by `sharpscope.trace`. With ``labels="data"`` it is the mean of ‖∇ℓ_i‖² over
    ``samples`` random samples of the data with their own labels (None: all), often called the empirical Fisher.
    """
    require_one_of("labels", labels, ("model", "data"))
    protocol: dict[str, object] = {"labels": labels, "seed": seed}
    if labels == "data":
        cost, draws = CostMeter(obj), list[float]()
        for block in sample_gradients(obj, _chosen(obj, samples, seed)):
            draws += block.double().square().sum(1).tolist()
        return _mean_of_samples("fisher_trace", obj, draws, cost, protocol)
    require_outputs(obj, "fisher_trace")
    e = curvature.trace(obj, rtol=rtol, samples=samples, max_samples=max_samples, matrix="ggn", seed=seed)
    return Estimate(
        "fisher_trace", e.value, stderr=e.stderr, samples=e.samples, converged=e.converged, cost=e.cost,
        protocol={**e.protocol, **protocol}, fingerprint=obj.fingerprint,
    )  # fmt: skip


@register(
    "fisher_rao_norm",
    title="Fisher–Rao norm",
    symbol="θᵀFθ",
    definition="The weights' squared length in the metric of the Fisher matrix.",
    source="Liang et al. 2019",
    unit="loss",
    cost="1 product",
    rescaling_invariant=True,
)
def fisher_rao_norm(obj: Objective, labels: Labels = "model") -> Estimate:
    """Return θᵀ F θ, the squared Fisher–Rao norm; labels as for `fisher_trace`.

    With labels of the model it is one product with the Gauss-Newton matrix; with labels of the data it is
    (1/N) Σ_i (θᵀ∇ℓ_i)². Function-preserving rescalings leave it unchanged.
    """
    require_one_of("labels", labels, ("model", "data"))
    require_outputs(obj, "fisher_rao_norm")
    cost, theta = CostMeter(obj), obj.flat()
    if labels == "data":
        squares = [
            float(s) for block in sample_gradients(obj, _chosen(obj, None, 0)) for s in dot(block, theta) ** 2
        ]
        return _mean_of_samples("fisher_rao_norm", obj, squares, cost, {"labels": labels})
    evaluator = obj.evaluator
    image = evaluator.multiply(evaluator.gauss_newton_graphs(evaluator.leaves()), theta)
    return Estimate(
        "fisher_rao_norm",
        float(dot(theta, image)),
        cost=cost.total(),
        protocol={"labels": labels, **obj.protocol},
        fingerprint=obj.fingerprint,
    )


@register(
    "gradient_disparity",
    title="Gradient disparity",
    symbol="E‖g_A − g_B‖",
    definition="Mean distance between the gradients of two batches.",
    source="Forouzesh & Thiran 2021",
    unit="loss / parameter",
    cost="10 batches of 64, 1 gradient each",
)
def gradient_disparity(
    obj: Objective, batch_size: int | None = None, batches: int = 10, seed: int = 0
) -> Estimate:
    """Return the mean over pairs of ``batches`` disjoint random batches of ‖∇L_A − ∇L_B‖₂.

    Batches have ``batch_size`` samples; by default 64, or fewer where the data has fewer. The standard error is a
    jackknife over batches. Raises `InputError` for fewer than 3 batches, or more than the data has.
    """
    require_outputs(obj, "gradient_disparity")
    require_at_least("batches", batches, 3, "a jackknife needs three")
    total = int(obj.n_samples)
    batch_size = max(1, min(64, total // batches)) if batch_size is None else batch_size
    require_at_least("batch_size", batch_size, 1, "the paper's is that of training")
    if batches * batch_size > total:
        raise InputError(
            f"gradient_disparity needs {batches} disjoint batches of {batch_size}, received {total} samples; lower "
            "batch_size or batches"
        )
    cost = CostMeter(obj)
    order = torch.randperm(total, generator=generator("gradient_disparity", seed))
    gradients = []
    for index in order[: batches * batch_size].split(batch_size):
        part = obj.subset(index)
        cost.include(part, batch_size / total)
        gradients.append(part.gradient())
    distances = {
        (i, j): float((gradients[i] - gradients[j]).double().norm())
        for i, j in combinations(range(batches), 2)
    }
    value = sum(distances.values()) / len(distances)
    rest = []
    for left_out in range(batches):
        kept = [d for pair, d in distances.items() if left_out not in pair]
        rest.append(sum(kept) / len(kept))
    middle = sum(rest) / batches
    variance = (batches - 1) / batches * sum((r - middle) ** 2 for r in rest)
    return Estimate(
        "gradient_disparity",
        value,
        stderr=math.sqrt(variance),
        samples=batches,
        cost=cost.total(),
        protocol={"batch_size": batch_size, "batches": batches, "seed": seed, **obj.protocol},
        fingerprint=obj.fingerprint,
    )


@register(
    "information_sharpness",
    title="Information geometric sharpness",
    symbol="tr F⁺C",
    definition="Sum over the sharpest directions of the Fisher matrix of the data's mean squared derivative of the "
    "loss along each, in units of the model's own.",
    source="Jang et al. 2022",
    unit="1",
    cost="10 eigenpairs of the Gauss-Newton matrix, the gradient of every sample",
)
def information_sharpness(obj: Objective, k: int = 10, tol: float = 1e-2, seed: int = 0) -> Estimate:
    """Return tr F_k⁺ C = Σ_{j ≤ k} (1/λ_j) (1/N) Σ_i (v_jᵀ∇ℓ_i)² over the k largest eigenpairs of F (IGS).

    C = (1/N) Σ_i ∇ℓ_i ∇ℓ_iᵀ with the data's labels, F the same with labels drawn from the model: for losses that are
    negative log likelihoods (cross-entropy, half the squared error) the Gauss-Newton matrix. Labels drawn from the
    model give k. A change of parameters does not move tr F⁺C; it does move which k directions are largest. Where
    there are at least as many parameters as samples times outputs, the whole pseudo-inverse gives Σ_i (1/p_i − 1)
    under cross-entropy, p_i the probability of sample i's label, which says nothing of the parameters: hence k.
    Eigenvalues are found to ``tol``; those below 1e-6 of the largest are left out, and ``directions`` in the protocol
    says how many are not. Checked against the authors' code, of which this is the form for large models with the
    exact Fisher matrix.

    Raises `InputError` for k below 1, and where samples interact or cannot be told apart. A k above the number of
    parameters is taken for it.

    Examples
    --------
    One sample whose three labels are equally likely, all of F: 1/p − 1 with p = 1/3.

    >>> model = torch.nn.Linear(2, 3).double()
    >>> _ = model.weight.data.zero_(), model.bias.data.zero_()
    >>> obj = Objective(model, torch.nn.functional.cross_entropy, (torch.ones(1, 2).double(), torch.tensor([0])))
    >>> round(information_sharpness(obj, k=2).value, 6)
    2.0

    """
    _require_single_samples(obj)
    require_at_least("k", k, 1, "10 are the directions that a classifier of ten classes depends on most")
    k = min(k, obj.size)
    cost = CostMeter(obj)
    top = curvature.top_eigenvalues(obj, k, tol=tol, seed=seed, matrix="ggn")
    values = torch.as_tensor(top.values)
    kept = values > SMALLEST_EIGENVALUE * values.max()
    directions = top.vectors[kept.to(top.vectors.device)]  # (directions, size)
    squares = torch.zeros(int(kept.sum()), dtype=torch.float64)
    for block in sample_gradients(obj, torch.arange(int(obj.n_samples))):
        squares += (block @ directions.T).double().square().sum(0).cpu()  # (directions,)
    total = cost.total()
    total["gradients"] = total.get("gradients", 0) + 1
    return Estimate(
        "information_sharpness",
        float((squares / values[kept]).sum()) / obj.n_samples,
        converged=bool(top.converged[kept.numpy()].all()),
        cost=total,
        protocol={"k": k, "directions": int(kept.sum()), "tol": tol, "seed": seed, **obj.protocol},
        fingerprint=obj.fingerprint,
    )
