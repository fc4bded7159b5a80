"""SAM and ASAM: minimise the highest loss near θ, with any ``torch.optim`` optimizer taking the step.

    ε = ρ T² g / ‖T g‖₂ ,    g = ∇L(θ) ,      then the base optimizer steps from θ with ∇L(θ + ε)

SAM (Foret et al. 2021, equations 2 and 3) has T = 1. ASAM (Kwon et al. 2021, algorithm 1) has T = |θ| + η, entry
by entry, so that rescalings which leave the network's function unchanged leave ε's effect unchanged too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sharpscope.errors import InputError
from sharpscope.optim.running_statistics import RunningStatistics

Closure = Callable[[], Any]
Rescale = Literal["none", "all", "matrices", "weights"]

_LEAST_NORM = 1e-30
"""A gradient shorter than this counts as none: 0/0 has no direction."""


class SAM(Optimizer):
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
    With a closure (which clears the gradients, evaluates and runs backward) a step is ``step(closure)``. In two
    steps::

        loss_of(batch).backward();  optimizer.first_step(zero_grad=True)     # now at θ + ε
        loss_of(batch).backward();  optimizer.second_step(zero_grad=True)    # back at θ, and the base's step

    ``optimizer.step()`` without a closure is the second step, so ``GradScaler.step(optimizer)`` works, and gets
    the weights back to θ where it skips the step. The direction of ε does not depend on the loss scale.
    A gradient that is not finite makes the second gradient NaN, which a scaler skips and which otherwise
    reaches the weights, as it would through the base. `state_dict` holds the base's state.

    Raises
    ------
    InputError
        For a ρ or η that is negative or not finite, an unknown ``rescale`` or ``m``, missing names; from the
        steps, when they come out of turn.

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

    _step_supports_amp_scaling = (
        True  # GradScaler calls step() even where it is to be skipped: θ must come back
    )

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
        self.base = base(params, **options)
        self.m, self._model = m, model
        self._away: list[tuple[Tensor, Tensor]] = []  # (parameter, its θ) while at θ + ε
        self._between = False
        self._copies: dict[Tensor, Tensor] = {}  # memory for θ, kept from step to step
        self._statistics = RunningStatistics(model)
        mine = {"rho": rho, "rescale": rescale, "eta": eta, "decay_in_ascent": decay_in_ascent}
        self.base.defaults.update({f"sam_{key}": value for key, value in mine.items()})
        for group in self.base.param_groups:
            self._complete(group)
        super().__init__(self.base.param_groups, self.base.defaults)
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base's, with its own ``sam_...`` choices or those given at the start."""
        if self.param_groups is not self.base.param_groups:  # under construction
            super().add_param_group(param_group)
            return
        self.base.add_param_group(param_group)
        try:
            self._complete(self.param_groups[-1])
        except InputError:
            self.param_groups.pop()
            raise

    def step(self, closure: Closure | Sequence[Closure] | None = None) -> Any:
        """Take a step and return the loss at θ; without a closure, take the second of two steps.

        A closure clears the gradients, evaluates the loss, runs backward and returns the loss; it is called at
        θ and again at θ + ε. With a sequence of closures, one per micro-batch, each finds its own ε; their
        gradients and losses are added up, so each divides its loss by their number.
        """
        if closure is None:
            return self._step_after_first()
        self._require(not self._between, "step(closure) begins at θ, and first_step() has been taken")
        closures = [closure] if callable(closure) else list(closure)
        self._require(bool(closures), "a sequence of closures must not be empty")
        return self.base.step(lambda: self._evaluate(closures))

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False, *, grad_scale: float | Tensor = 1.0) -> None:
        """Go from θ to θ + ε, by the gradients at hand.

        ``grad_scale`` (``GradScaler.get_scale()``) matters only where scaled gradients meet
        ``decay_in_ascent``.
        """
        self._require(not self._between, "first_step() begins at θ, and it has been taken already")
        self._between = True
        self._ascend(grad_scale)
        self._statistics.hold()
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad: bool = False) -> None:
        """Go back to θ and take the base's step with the gradients at hand, those of θ + ε."""
        self.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to θ without a step: to leave out a batch between `first_step` and `second_step`."""
        if self._away:
            parameters, origins = zip(*self._away, strict=True)
            torch._foreach_copy_(parameters, origins)
        self._away, self._between = [], False
        self._statistics.release()

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state and groups; refused at θ + ε, where the model's weights are not its own."""
        self._require(not self._between, "a state is saved at θ; take second_step() or restore() first")
        return super().state_dict()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("base", "m", "_model", "_away", "_between", "_statistics")
        return super().__getstate__() | {key: self.__dict__[key] for key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also where ``load_state_dict`` ends: the base gets what was loaded, and it stays one thing."""
        super().__setstate__({"_copies": {}} | state)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def _evaluate(self, closures: Sequence[Closure]) -> Any:
        """Leave in ``.grad`` the sum of every closure's gradient at its own θ + ε; return the loss at θ."""
        if not any(group["sam_rho"] for group in self.param_groups) and len(closures) == 1:
            return closures[0]()
        loss: Any = 0.0
        total: dict[Tensor, Tensor] = {}
        for closure in closures:
            with self._first_evaluation():
                here = closure()
            try:
                self.first_step()
                closure()
            finally:
                self.restore()
            loss = here if len(closures) == 1 else loss + here
            if len(closures) > 1:
                for p in self._all_parameters():
                    if p.grad is not None:
                        total[p] = total[p] + p.grad if p in total else p.grad.clone()
        for p, gradient in total.items():
            p.grad = gradient
        return loss

    def _first_evaluation(self) -> AbstractContextManager[Any]:
        model: Any = self._model
        return model.no_sync() if self.m == "rank" else nullcontext()

    @torch.no_grad()
    def _step_after_first(self) -> Any:
        perturbing = any(group["sam_rho"] for group in self.param_groups)
        self._require(
            self._between or not perturbing,
            "SAM needs the gradient at θ and at θ + ε: pass step a closure, or take first_step() before",
        )
        self.restore()
        scale, found_inf = (
            getattr(self, "grad_scale", None),
            getattr(self, "found_inf", None),
        )  # of a GradScaler
        if found_inf is not None and bool(found_inf):
            return None
        if scale is not None:
            inverse = scale.double().reciprocal().float()  # as GradScaler.unscale_ does, to the bit
            for p in self._all_parameters():
                if p.grad is not None:
                    p.grad.mul_(inverse.to(p.grad.device))
        return self.base.step()

    def _ascend(self, grad_scale: float | Tensor) -> None:
        """Move to θ + ε. Nothing here waits for an accelerator."""
        moves: list[tuple[float, list[Tensor], list[Tensor]]] = []  # ρ, θ and T² g
        norms: list[Tensor] = []  # of every tensor's T g
        for group in self.param_groups:
            rho = group["sam_rho"] * (-1 if group.get("maximize") else 1)
            for params, rescaled in self._by_rescaling(group) if rho else ():
                g = [p.grad for p in params if p.grad is not None]
                if group["sam_decay_in_ascent"] and (decay := group.get("weight_decay")):
                    g = list(torch._foreach_add(g, torch._foreach_mul(params, decay * grad_scale)))
                if rescaled:
                    t = torch._foreach_abs(params)
                    torch._foreach_add_(t, group["sam_eta"])
                    g = list(torch._foreach_mul(g, t))
                norms += _norms(g)
                moves.append((rho, params, list(torch._foreach_mul(g, t)) if rescaled else g))
        if not norms:
            return
        device = norms[0].device
        norm = torch.linalg.vector_norm(torch.stack([n.to(device) for n in norms])).clamp_min(_LEAST_NORM)
        for rho, params, direction in moves:
            origins = [self._copy_of(p) for p in params]
            torch._foreach_copy_(origins, params)
            self._away += zip(params, origins, strict=True)
            if device.type == "cpu":  # as a number the factor spares a pass over memory
                torch._foreach_add_(params, direction, alpha=(rho / norm).item())
            else:  # where it would have to be waited for
                torch._foreach_add_(params, torch._foreach_mul(direction, rho / norm))

    def _by_rescaling(self, group: dict[str, Any]) -> Iterator[tuple[list[Tensor], bool]]:
        """Yield a group's parameters that have gradients: those with T = 1, those with T = |θ| + η."""
        which = group["sam_rescale"]
        names = self._names(group) if which == "weights" else [""] * len(group["params"])
        chosen = {
            p: which == "all"
            or (which == "matrices" and p.ndim > 1)
            or (which == "weights" and "weight" in n)
            for p, n in zip(group["params"], names, strict=True)
            if p.grad is not None
        }
        for rescaled in (False, True):
            params = [p for p, is_chosen in chosen.items() if is_chosen is rescaled]
            if params:
                yield params, rescaled

    def _names(self, group: dict[str, Any]) -> list[str]:
        if "param_names" in group:
            return list(group["param_names"])
        known = {p: n for n, p in self._model.named_parameters()} if self._model is not None else {}
        return [known.get(p, "") for p in group["params"]]

    def _copy_of(self, parameter: Tensor) -> Tensor:
        held = self._copies.get(parameter)
        if held is None or held.device != parameter.device or held.dtype != parameter.dtype:
            held = self._copies[parameter] = torch.empty_like(parameter)
        return held

    def _all_parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _complete(self, group: dict[str, Any]) -> None:
        """Give a group the choices it does not make itself, and check them all."""
        for key, value in self.base.defaults.items():
            group.setdefault(key, value)
        for key, symbol in (("sam_rho", "ρ"), ("sam_eta", "η")):
            if not (isinstance(group[key], int | float) and math.isfinite(group[key]) and group[key] >= 0):
                raise InputError(
                    f"{symbol} must be finite and at least 0, received {key.removeprefix('sam_')}={group[key]!r}; "
                    "the SAM paper's ρ is 0.05, the ASAM paper's η 0.01"
                )
        if group["sam_rescale"] not in (rules := ("none", "all", "matrices", "weights")):
            raise InputError(f"rescale must be one of {', '.join(rules)}, received {group['sam_rescale']!r}")
        if group["sam_rescale"] == "weights" and not all(self._names(group)):
            raise InputError(
                "rescale='weights' goes by names, received parameters without; pass model.named_parameters()"
            )

    @staticmethod
    def _require(holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(rule)


class ASAM(SAM):
    """Adaptive SAM: `SAM` with T = |θ| + η for every parameter, and the ASAM paper's ρ and η as defaults.

    Kwon et al. 2021, algorithm 1 with element-wise T and p = 2. The paper has T = |θ| + η for all parameters; its
    released code leaves biases at T = 1 (``rescale="weights"``); other implementations have η = 0. The paper's
    own value for CIFAR-10 is ρ = 0.5; all other arguments are `SAM`'s.

    θ = (2, 0), g = (2, 0): T² g/‖T g‖ = (|θ| + η, 0), so ε = 0.5 · 2.01 and the gradient there 3.005.

    >>> theta = nn.Parameter(torch.tensor([2.0, 0.0]))
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


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    """The 2-norm of each; half precision is summed in float32, where squares overflow later."""
    if all(t.dtype in (torch.float32, torch.float64) for t in tensors):
        return list(torch._foreach_norm(tensors))
    return [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]
