"""Relative flatness: the trace of a layer's curvature, weighted by the inner products of its neurons' weights."""

from __future__ import annotations

import torch

from sharpscope.autograd.vectors import dot
from sharpscope.curvature.operators import CurvatureProducts
from sharpscope.errors import InputError, require_at_least, require_one_of
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


@register(
    "relative_flatness",
    title="Relative flatness of a layer",
    symbol="Σ ⟨w_s,w_s'⟩ tr H_ss'",
    definition="Sum over pairs of a layer's neurons of the inner product of their weights times the trace of the "
    "Hessian's block of the pair.",
    source="Petzka et al. 2021",
    unit="loss",
    cost="64 products of one layer",
)
def relative_flatness(obj: Objective, layer: str = "last", samples: int = 64, seed: int = 0) -> Estimate:
    """Return κ = Σ_{s,s'} ⟨w_s, w_s'⟩ tr H_{s,s'}, w_s the rows of one layer's weight W (out, in).

    H_{s,s'} is the block of ∇²L at rows s and s'. With R a random matrix of signs (in, in), κ = E vec(WR)ᵀ H vec(WR):
    the mean over ``samples`` such probes. Kernels of a convolution count as rows. Multiplying the layer by a factor
    and dividing the next by it leaves κ unchanged; rescaling single input channels does not. Checked against the
    authors' code, whose regulariser divides by the number of inputs.

    Parameters
    ----------
    layer
        Name of a weight of two or more dimensions; by default the last one that is measured.

    Raises
    ------
    InputError
        For another name, no such weight, or fewer than 2 samples.

    """
    require_at_least("samples", samples, 2, "a standard error needs two")
    named = [n for n, shape in zip(obj.layout.names, obj.layout.shapes, strict=True) if len(shape) > 1]
    if not named:
        raise InputError("relative_flatness needs a weight matrix, received vectors only; measure more")
    if layer != "last":
        require_one_of("layer", layer, named)
    name = named[-1] if layer == "last" else layer
    weight = obj.layout.split(obj.flat())[name].flatten(1)  # (out, in)
    # a copy, since other parameters keep the model's own values: those of the point measured at
    view = (obj if obj.evaluator.centre is None else obj.with_copy(obj.dtype)).with_params(name)
    cost = CostMeter(view)
    draws = []
    with CurvatureProducts(view) as product:
        for index in range(samples):
            g = generator("relative_flatness", seed, index)
            signs = 2 * torch.randint(0, 2, (weight.shape[1],) * 2, generator=g) - 1
            probe = (weight @ signs.to(weight)).flatten()  # (size,)
            draws.append(float(dot(probe, product(probe))))
    return Estimate.of_samples(
        "relative_flatness",
        draws,
        cost.total(),
        {"layer": name, "samples": samples, "seed": seed, **obj.protocol},
        obj.fingerprint,
    )
