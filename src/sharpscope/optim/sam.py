"""SAM: minimise the highest loss near θ, with any ``torch.optim`` optimizer taking the step.

    ε = ρ T² g / ‖T g‖₂ ,    g = ∇L(θ) ,      then the base optimizer steps from θ with ∇L(θ + ε)

SAM (Foret et al. 2021, equations 2 and 3) has T = 1. ASAM (Kwon et al. 2021, algorithm 1) has T = |θ| + η, entry
by entry, so that rescalings which leave the network's function unchanged leave ε's effect unchanged too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sharpscope.errors import InputError
from sharpscope.optim.groups import Rescale, check_choices, perturbations, perturbed
from sharpscope.optim.sharpness_aware import Closure, SharpnessAware
from sharpscope.optim.vectors import add_multiple, joint_norm


class SAM(SharpnessAware):
    """Sharpness-aware minimisation around a base optimizer.

    Parameters
    ----------
    params
        What the base takes: parameters, ``model.named_parameters()``, or groups of them.
    base
        A ``torch.optim`` class (or any callable that builds an optimizer from parameters); it is called with
        ``params`` and ``options`` and takes the steps. Its state and groups are this optimizer's.
    rho
        Radius ρ of the perturbation, in units of the parameters (of T⁻¹θ where rescaled). With 0 everywhere a
        step is the base's own, bit for bit, at its cost.
    rescale
        Which parameters have T = |θ| + η; the others have T = 1.

        - ``"none"``: SAM.
        - ``"all"``: every one, as the ASAM paper defines it (`ASAM`'s default).
        - ``"matrices"``: those of two or more dimensions; neither biases nor normalisation weights.
        - ``"weights"``: those named ``weight``, normalisation included and biases not, as the ASAM authors'
          released code does. Needs names: ``named_parameters()``, or ``model=``.
    eta
        The stabiliser η. It lets weights at 0 move; the ASAM paper's is 0.01.
    decay_in_ascent
        Whether g includes the base's L2 penalty, g = ∇L(θ) + weight_decay · θ. By default the base applies its
        decay in the step alone, at θ.
    m
        Over which samples one ε is found (m-sharpness: Foret et al. 2021, section 4.1). ``"batch"``: over all
        that went into the gradient, which under DistributedDataParallel is the batch of every rank together.
        ``"rank"``: each rank finds its own ε, so m is the batch of one rank; needs ``model=`` the DDP module.
        For one ε per micro-batch give `step` a sequence of closures.
    model
        The module trained. Its running statistics (batch normalisation) then move in the first evaluation of
        a step only. Without it they do as well, by a hook on all modules during the second evaluation, which
        does not reach into a compiled module: pass that as ``model``.
    options
        The base's own options: ``lr``, ``momentum``, …

    Every group may carry its own ``sam_rho``, ``sam_rescale``, ``sam_eta`` and ``sam_decay_in_ascent``. The norm
    is over all groups with ``sam_rho`` above 0; a group at 0 is left where it is.

    Notes
    -----
    With a closure (which evaluates the loss and runs backward) a step is ``step(closure)``. In two steps::

        loss_of(batch).backward();  optimizer.first_step()     # now at θ + ε, gradients cleared
        loss_of(batch).backward();  optimizer.second_step()    # back at θ, and the base's step

    ``optimizer.step()`` without a closure is the second step, so ``GradScaler.step(optimizer)`` works, and gets
    the weights back to θ where it skips the step. The direction of ε does not depend on the loss scale.
    A gradient that is not finite makes the second gradient NaN, which a scaler skips and which otherwise
    reaches the weights, as it would through the base. `state_dict` holds the base's state.

    A subclass makes another optimizer of the family by one of four methods: `perturbs`, `ascend`, `perturbation`
    and `combination`. What it keeps from step to step goes through `remember` and `recall`.

    Raises
    ------
    InputError
        For a ρ or η that is negative or not finite, an unknown ``rescale`` or ``m``, missing names, weights in half
        precision; from the steps, when they come out of turn or where a trainer's way of calling them would make
        them another optimizer's (`sharpscope.optim.refusals`).

    Examples
    --------
    L = θ²/2 at θ = 1: ε = ρ, the gradient at 1.5 is 1.5, and the step of 0.1 starts from 1.

    >>> theta = nn.Parameter(torch.ones(1))
    >>> optimizer = SAM([theta], torch.optim.SGD, rho=0.5, lr=0.1)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = theta.square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item(), round(theta.item(), 4)
    (0.5, 0.85)

    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        rho: float = 0.05,
        *,
        rescale: Rescale = "none",
        eta: float = 0.01,
        decay_in_ascent: bool = False,
        m: Literal["batch", "rank"] = "batch",
        model: nn.Module | None = None,
        **options: Any,
    ) -> None:
        if m not in ("batch", "rank"):
            raise InputError(f"m must be 'batch' or 'rank', received {m!r}; see the documentation of SAM")
        if m == "rank" and not hasattr(model, "no_sync"):
            raise InputError(
                "m='rank' needs the DistributedDataParallel module, to keep the first gradient on its rank, "
                f"received model={type(model).__name__}; pass model="
            )
        choices = {"rho": rho, "rescale": rescale, "eta": eta, "decay_in_ascent": decay_in_ascent}
        super().__init__(base(params, **options), choices, m, model)

    def ascend(self, closure: Closure) -> None:
        """Go from θ, whose gradients are at hand, to where the second gradient is taken.

        By default one move by `perturbation`. Several moves call this several times, with ``closure()`` between them
        for the gradient at the place reached; two-step training has no closure and refuses that.
        """
        parts = list(perturbed(self.param_groups, self._names))
        parameters = [p for part in parts for p in part.parameters]
        self._excursion.keep(parameters)
        if type(self).perturbation is SAM.perturbation:
            scaled = [part.scaled() for part in parts]
            norm = joint_norm(t for once, _ in scaled for t in once)
            for part, (_, along) in zip(parts, scaled, strict=True):
                add_multiple(part.parameters, along, part.rho, norm)
            return
        gradients = [g for part in parts for g in part.gradients]
        radii = [part.rho for part in parts for _ in part.parameters]
        for p, e in zip(parameters, self.perturbation(parameters, gradients, radii), strict=True):
            p.add_(e)

    def perturbation(
        self, parameters: list[Tensor], gradients: list[Tensor], radii: list[float]
    ) -> list[Tensor]:
        """Return ε for every perturbed parameter that has a gradient; here ρ T² g / ‖T g‖.

        ``radii`` are the groups' ρ, negative where the base maximizes. A variant may hand other gradients on to this
        method. `sharpscope.optim.joint_norm` and `joint_dot` know sparse and sharded tensors.
        """
        given = dict(zip(parameters, gradients, strict=True))
        parts = list(perturbed(self.param_groups, self._names, given))
        found: dict[Tensor, Tensor] = {}
        for part, moves in zip(parts, perturbations(parts), strict=True):
            found.update(zip(part.parameters, moves, strict=True))
        return [found[p] for p in parameters]

    def check_group(self, group: dict[str, Any]) -> None:
        """Refuse a group whose ρ, η, ``rescale`` or precision SAM cannot work with."""
        check_choices(group, self._names)

    @property
    def _mixes_gradients(self) -> bool:
        return super()._mixes_gradients or type(self).perturbation is not SAM.perturbation

    def _names(self, group: dict[str, Any]) -> list[str]:
        if "param_names" in group:
            return list(group["param_names"])
        known = {p: n for n, p in self._model.named_parameters()} if self._model is not None else {}
        return [known.get(p, "") for p in group["params"]]
