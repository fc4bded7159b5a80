"""Variants of SAM from the literature, each by the methods that `SAM` leaves open."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sharpscope.errors import InputError
from sharpscope.optim.groups import Rescale
from sharpscope.optim.sam import SAM
from sharpscope.optim.vectors import joint_dot, joint_norm


class ASAM(SAM):
    """Adaptive SAM: `SAM` with T = |θ| + η for every parameter, and the ASAM paper's ρ and η as defaults.

    Kwon et al. 2021, algorithm 1 with element-wise T and p = 2. The paper has T = |θ| + η for all parameters; its
    released code leaves biases at T = 1 (``rescale="weights"``); other implementations have η = 0. The paper's
    own value for CIFAR-10 is ρ = 0.5; all other arguments are `SAM`'s.

    θ = (2, 0), g = (2, 0): T² g/‖T g‖ = (|θ| + η, 0), so ε = 0.5 · 2.01 and the gradient there 3.005.

    >>> theta = torch.nn.Parameter(torch.tensor([2.0, 0.0]))
    >>> optimizer = ASAM([theta], torch.optim.SGD, lr=1.0)
    >>> (theta.square().sum() / 2).backward()
    >>> optimizer.first_step()
    >>> theta.detach()
    tensor([3.0050, 0.0000])
    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        rho: float = 0.5,
        *,
        rescale: Rescale = "all",
        **choices: Any,
    ) -> None:
        super().__init__(params, base, rho, rescale=rescale, **choices)


class GSAM(SAM):
    """Surrogate gap guided SAM: also descends on the gap between the perturbed loss and the loss at θ.

    The base steps with g_p − α g_⊥, where g_p = ∇L(θ + ε) and g_⊥ = g − (⟨g, g_p⟩/‖g_p‖²) g_p is the part of
    g = ∇L(θ) that is orthogonal to it (Zhuang et al. 2022, algorithm 1). The paper lowers ρ with the learning rate;
    here ρ is ``sam_rho`` of the groups, to be scheduled by the user. α is 0.4 in the paper for ViT-B/32, 0.1 to 0.6
    elsewhere.

    L = x + y²/2 at (0, 1), ρ = √2: g = (1, 1), ε = (1, 1), g_p = (1, 2), and g_⊥ = (1, 1) − 3/5 (1, 2).

    >>> theta = torch.nn.Parameter(torch.tensor([0.0, 1.0]))
    >>> optimizer = GSAM([theta], torch.optim.SGD, rho=2**0.5, alpha=0.5, lr=1.0)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     (theta[0] + theta[1].square() / 2).backward()
    >>> optimizer.step(closure)
    >>> theta.detach()
    tensor([-0.8000, -1.1000])
    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        rho: float = 0.05,
        *,
        alpha: float = 0.4,
        **choices: Any,
    ) -> None:
        _check("alpha", alpha, "the GSAM paper's is 0.4")
        self.alpha = alpha
        super().__init__(params, base, rho, **choices)

    def combination(
        self, parameters: list[Tensor], first: list[Tensor], second: list[Tensor] | None
    ) -> list[Tensor]:
        """Return g_p − α g_⊥."""
        if second is None:
            return first
        along = _ratio(joint_dot(first, second), joint_norm(second).square())
        return [there - self.alpha * (here - along.to(here) * there) for here, there in _pairs(first, second)]


class FriendlySAM(SAM):
    """Friendly SAM: perturbs along what is special to the batch, leaving out the gradient of the whole data.

    ε = ρ d/‖d‖ with d = g − σ m, where m is a running mean of gradients that stands for the gradient of all the data
    (Li et al. 2024, algorithm 1). As in the authors' code, m is the mean before this step, in the first step d = g,
    and then m ← λ m + (1 − λ) g. With the paper's σ = 1 its m_t, which includes g, gives the same direction.

    L = ⟨c, θ⟩ has the same gradient c everywhere, so in the second step d = 0 and ε = 0.

    >>> theta = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = FriendlySAM([theta], torch.optim.SGD, rho=1.0, lr=0.0)
    >>> moves = []
    >>> for _ in range(2):
    ...     theta.sum().backward()
    ...     optimizer.first_step()
    ...     moves.append(round(theta.detach().norm().item(), 6))
    ...     theta.sum().backward()
    ...     optimizer.second_step(zero_grad=True)
    >>> moves
    [1.0, 0.0]
    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        rho: float = 0.05,
        *,
        sigma: float = 1.0,
        mean_decay: float = 0.9,
        **choices: Any,
    ) -> None:
        _check("sigma", sigma, "the Friendly SAM paper's is 1")
        _check("mean_decay", mean_decay, "the Friendly SAM paper's λ is 0.9", below=1.0)
        self.sigma, self.mean_decay = sigma, mean_decay
        super().__init__(params, base, rho, **choices)

    def perturbation(
        self, parameters: list[Tensor], gradients: list[Tensor], radii: list[float]
    ) -> list[Tensor]:
        """Return ρ d/‖d‖ (with T as in `SAM` where rescaled), and remember the running mean."""
        means = _pairs(gradients, self.recall("mean", parameters))
        known = joint_norm(m for _, m in means if m is not None) > 0  # zeros stand for no mean yet
        decay = self.mean_decay * known.double()  # a tensor, for which nothing waits
        special = [g if m is None else g - self.sigma * m for g, m in means]
        new = [g.clone() if m is None else g + decay.to(g) * (m - g) for g, m in means]
        self.remember("mean", parameters, new)
        return super().perturbation(parameters, special, radii)


class LookSAM(SAM):
    """LookSAM: evaluates a second time in every k-th step only, and uses what it found there in between.

    In a step with two evaluations the base gets g_s = ∇L(θ + ε), and the part of it that is orthogonal to g = ∇L(θ),
    g_v = g_s − ⟨g_s, ĝ⟩ ĝ, is remembered. In the k − 1 steps after it the base gets g + α (‖g‖/‖g_v‖) g_v (Liu et al.
    2022, algorithm 1, whose k is 5 and α 0.7). Norms are those of the whole gradient, as in the paper.

    The count of steps is in the first group, ``sam_step``.
    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        rho: float = 0.05,
        *,
        k: int = 5,
        alpha: float = 0.7,
        **choices: Any,
    ) -> None:
        _check("alpha", alpha, "the LookSAM paper's is 0.7")
        if not (isinstance(k, int) and k >= 1):
            raise InputError(
                f"k must be a whole number of at least 1, received {k!r}; the LookSAM paper's is 5"
            )
        self.k, self.alpha = k, alpha
        super().__init__(params, base, rho, **choices)
        self.param_groups[0].setdefault("sam_step", 0)

    def perturbs(self) -> bool:
        """Say whether this is a k-th step."""
        return super().perturbs() and self.param_groups[0]["sam_step"] % self.k == 0

    def combination(
        self, parameters: list[Tensor], first: list[Tensor], second: list[Tensor] | None
    ) -> list[Tensor]:
        """Return g_s and remember g_v; in between g + α (‖g‖/‖g_v‖) g_v."""
        if second is not None:
            along = _ratio(joint_dot(first, second), joint_norm(first).square())
            aside = [there - along.to(there) * here for here, there in _pairs(first, second)]
            self.remember("aside", parameters, aside)
            return second
        known = [
            v if v is not None else torch.zeros_like(g)
            for v, g in _pairs(self.recall("aside", parameters), first)
        ]
        factor = self.alpha * _ratio(joint_norm(first), joint_norm(known))
        return [g + factor.to(g) * v for g, v in _pairs(first, known)]

    def stepped(self) -> None:
        """Count the step."""
        self.param_groups[0]["sam_step"] += 1


def _pairs(a: list[Any], b: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(a, b, strict=True))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where there is nothing to divide by: a gradient of zeros has no direction."""
    return torch.where(denominator > 0, numerator / denominator, torch.zeros_like(numerator))


def _check(name: str, value: float, usual: str, below: float = math.inf) -> None:
    if not (isinstance(value, int | float) and 0 <= value < below):
        limit = "finite" if below == math.inf else f"below {below:g}"
        raise InputError(f"{name} must be at least 0 and {limit}, received {value!r}; {usual}")
