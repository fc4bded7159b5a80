"""What a parameter group of SAM chooses, and which of its parameters move along what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.optim.refusals import refuse_half_precision
from sharpscope.optim.vectors import LARGEST_FACTOR, is_sharded, joint_norm, multiplied

Group = dict[str, Any]
Names = Callable[[Group], list[str]]
Rescale = Literal["none", "all", "matrices", "weights"]


def check_choices(group: Group, names: Names) -> None:
    """Refuse a group whose ρ, η, ``rescale`` or precision SAM cannot work with."""
    for key, symbol in (("sam_rho", "ρ"), ("sam_eta", "η")):
        if not (isinstance(group[key], int | float) and math.isfinite(group[key]) and group[key] >= 0):
            raise InputError(
                f"{symbol} must be finite and at least 0, received {key.removeprefix('sam_')}={group[key]!r}; "
                "the SAM paper's ρ is 0.05, the ASAM paper's η 0.01"
            )
    if group["sam_rescale"] not in (rules := get_args(Rescale)):
        raise InputError(f"rescale must be one of {', '.join(rules)}, received {group['sam_rescale']!r}")
    if group["sam_rescale"] == "weights" and not all(names(group)):
        raise InputError(
            "rescale='weights' goes by names, received parameters without; pass model.named_parameters()"
        )
    for p in group["params"] if group["sam_rho"] else ():
        refuse_half_precision(p)


class Perturbed(NamedTuple):
    """Parameters of one group that move together: alike in rescaling, layout and sharding."""

    rho: float
    """The group's radius, negative where the base maximizes."""
    parameters: list[Tensor]
    gradients: list[Tensor]
    eta: float | None
    """T = |θ| + η, or T = 1 where None."""

    def scaled(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return T g, whose norm counts, and T² g, along which the weights move."""
        g = self.gradients
        if self.eta is None:
            return g, g
        t = torch._foreach_abs(self.parameters)
        torch._foreach_add_(t, self.eta)
        once = multiplied(g, list(t))
        return once, multiplied(once, list(t))


def perturbed(
    groups: Sequence[Group], names: Names, gradients: Mapping[Tensor, Tensor] | None = None
) -> Iterator[Perturbed]:
    """Yield the parameters with ρ above 0 that have gradients, alike ones together.

    ``gradients`` stand in place of the parameters' own; parameters that are not among them are left out.
    """
    for group in groups:
        rho = group["sam_rho"] * (-1 if group.get("maximize") else 1)
        if not rho:
            continue
        alike: dict[tuple[bool, torch.layout, object], tuple[list[Tensor], list[Tensor]]] = {}
        chosen = _rescaled(group, names)
        for p, rescaled in zip(group["params"], chosen, strict=True):
            g = p.grad if gradients is None else gradients.get(p)
            if g is None:
                continue
            refuse_half_precision(p)
            if g.layout != torch.strided:
                g = g.coalesce()
            key = (rescaled, g.layout, p.device_mesh if is_sharded(p) else None)
            ps, gs = alike.setdefault(key, ([], []))
            ps.append(p)
            gs.append(g)
        decay = group.get("weight_decay") if group["sam_decay_in_ascent"] and gradients is None else 0
        for (rescaled, layout, _), (ps, gs) in alike.items():
            if decay:
                if layout != torch.strided:
                    raise InputError(
                        "decay_in_ascent needs dense gradients, received sparse ones; use sparse=False, or leave the "
                        "decay to the step"
                    )
                gs = list(torch._foreach_add(gs, torch._foreach_mul(ps, decay)))
            yield Perturbed(rho, ps, gs, group["sam_eta"] if rescaled else None)


def perturbations(parts: Sequence[Perturbed]) -> list[list[Tensor]]:
    """Return ε = ρ T² g / ‖T g‖ for the parameters of every part, one norm over all."""
    scaled = [part.scaled() for part in parts]
    norm = joint_norm(t for once, _ in scaled for t in once)
    out = []
    for part, (_, along) in zip(parts, scaled, strict=True):
        factor = (part.rho / norm).clamp(-LARGEST_FACTOR, LARGEST_FACTOR)
        out.append(multiplied(along, factor.item() if norm.device.type == "cpu" else factor))
    return out


def _rescaled(group: Group, names: Names) -> list[bool]:
    """Say for each parameter of a group whether it has T = |θ| + η."""
    which, params = group["sam_rescale"], group["params"]
    if which == "weights":
        return ["weight" in name for name in names(group)]
    return [which == "all" or (which == "matrices" and p.ndim > 1) for p in params]
