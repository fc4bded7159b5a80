"""What the Gauss-Newton matrix leaves out of the Hessian: the part that comes from the model's own curvature."""

from __future__ import annotations

import math

import torch

from sharpscope.curvature import top_eigenvalues
from sharpscope.curvature.operators import CurvatureProducts
from sharpscope.errors import require_at_least
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


@register(
    "gauss_newton_split",
    title="Hessian less Gauss-Newton",
    symbol="‖H − G‖_F",
    definition="Frobenius norm of the Hessian less the Gauss-Newton matrix; its protocol has ‖G‖_F and λ_max(G).",
    source="Dauphin et al. 2024",
    unit="loss / parameter²",
    cost="32 products, 1 λ_max of the Gauss-Newton matrix",
)
def gauss_newton_split(obj: Objective, samples: int = 16, tol: float = 1e-2, seed: int = 0) -> Estimate:
    """Estimate ‖∇²L − G‖_F, G the generalised Gauss-Newton matrix, from ``samples`` Rademacher probes.

    H − G = (1/N) Σ_i Σ_k (∂ℓ/∂f_k) ∇²f_k is what the model's second derivatives add; it vanishes where the model is
    linear or fits every sample. E‖(H − G)z‖² is the square; the standard error follows by the delta method. λ_max(G)
    is computed to ``tol``. Raises `InputError` for `from_batch_loss` objectives and fewer than 2 samples.
    """
    require_at_least("samples", samples, 2, "a standard error needs two")
    cost = CostMeter(obj)
    squares: dict[str, list[float]] = {"H-G": [], "H": [], "G": []}
    with CurvatureProducts(obj, None, "ggn") as gauss_newton, CurvatureProducts(obj) as hessian:
        for index in range(samples):
            g = generator("gauss_newton_split", seed, index)
            bits = obj.layout.drawn(lambda n, g=g: torch.randint(0, 2, (n,), generator=g))  # type: ignore[misc]
            z = (2 * bits - 1).to(obj.device, obj.dtype)
            images = {"G": gauss_newton(z), "H": hessian(z)}
            images["H-G"] = images["H"] - images["G"]
            for name, image in images.items():
                squares[name].append(float(image.double().square().sum()))
    top = top_eigenvalues(obj, tol=tol, seed=seed, matrix="ggn")
    square = Estimate.of_samples("", squares["H-G"], {}, {}, "")
    assert square.stderr is not None
    value = math.sqrt(square.value)
    return Estimate(
        "gauss_newton_split",
        value,
        stderr=square.stderr / (2 * value) if value else 0.0,
        samples=samples,
        cost=cost.total(),
        protocol={
            "samples": samples,
            "seed": seed,
            "frobenius_norm": math.sqrt(math.fsum(squares["H"]) / samples),
            "frobenius_norm_ggn": math.sqrt(math.fsum(squares["G"]) / samples),
            "lambda_max_ggn": top.value,
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )
