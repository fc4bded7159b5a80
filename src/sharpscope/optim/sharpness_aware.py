"""Steps of two evaluations around a base optimizer: when gradients are taken, where, and what is put back.

What the second place is and which gradient the base gets is said by `sharpscope.optim.SAM` and its variants.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sharpscope.errors import InputError
from sharpscope.optim.excursion import Excursion
from sharpscope.optim.refusals import (
    ClearingCheck,
    UnscaleCheck,
    check_scaling,
    refuse_accumulation_by_accelerate,
    refuse_sharding_by_others,
    require,
)
from sharpscope.optim.vectors import local

Closure = Callable[[], Any]


class SharpnessAware(Optimizer):
    """An optimizer that takes a gradient at θ and one at a place nearby before its base takes the step from θ.

    Its groups, state and defaults are the base's. A subclass defines `ascend`, the way to the second place, and may
    replace `perturbs` and `combination`. What it keeps from step to step goes through `remember` and `recall`.
    """

    # GradScaler then calls step() even where it is to be skipped: θ must come back
    _step_supports_amp_scaling = True

    def __init__(self, base: Optimizer, choices: dict[str, Any], m: str, model: nn.Module | None) -> None:
        if isinstance(base, SharpnessAware):
            raise InputError(
                f"the base takes the step and must be another optimizer, received {type(base).__name__}; "
                "for several moves upwards write a variant (docs/optimizers.md)"
            )
        self.base = base
        refuse_sharding_by_others(p for group in base.param_groups for p in group["params"])
        self.m, self._model = m, model
        self._excursion = Excursion(model)
        self._remembered: dict[Tensor, dict[str, Tensor]] = {}
        base.defaults.update({f"sam_{key}": value for key, value in choices.items()})
        for group in base.param_groups:
            self._complete(group)
        super().__init__(base.param_groups, base.defaults)
        self._be_one_with_base()

    # -- what a variant may replace ------------------------------------------------------------------

    def perturbs(self) -> bool:
        """Say whether this step needs the gradient at θ + ε. Where not, it takes one evaluation, at θ."""
        return any(group["sam_rho"] for group in self.param_groups)

    def ascend(self, closure: Closure) -> None:
        """Go from θ, whose gradients are at hand, to where the second gradient is taken."""
        raise NotImplementedError

    def combination(
        self, parameters: list[Tensor], first: list[Tensor], second: list[Tensor] | None
    ) -> list[Tensor]:
        """Return the gradients that the base steps with; here those at θ + ε.

        ``first`` are the gradients at θ, ``second`` those at θ + ε, zeros where a parameter has none. ``second`` is
        None in a step that has no second evaluation (`perturbs`).
        """
        return first if second is None else second

    def stepped(self) -> None:
        """Do what is due after the base has taken a step: to count, for one. Here nothing."""

    def remember(self, name: str, parameters: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """Keep a tensor for each parameter from this step to later ones, in the state that is saved.

        It comes into the state when the base has stepped; a step that is skipped leaves nothing.
        """
        for p, tensor in zip(parameters, tensors, strict=True):
            self._remembered.setdefault(p, {})[f"sam_{name}"] = tensor.detach()

    def recall(self, name: str, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Return what was remembered for each parameter, None where nothing was."""
        return [
            self._remembered.get(p, {}).get(f"sam_{name}", self.state.get(p, {}).get(f"sam_{name}"))
            for p in parameters
        ]

    # -- the steps -----------------------------------------------------------------------------------

    def step(self, closure: Closure | Sequence[Closure] | None = None) -> Any:
        """Take a step and return the loss at θ; without a closure, take the second of two steps.

        A closure evaluates the loss, runs backward and returns the loss; it is called at θ and again at θ + ε. It
        must clear the gradients first where there are any. With a sequence of closures, one per micro-batch, each
        finds its own ε; their gradients and losses are added up, so each divides its loss by their number. After
        `first_step` a closure is evaluated once more, at θ + ε.
        """
        try:
            if self._excursion.begun:
                return self._second_step(closure)
            self._excursion.by_closures = closure is not None
            return self._step_at_hand() if closure is None else self._step_by_closures(closure)
        except BaseException:
            for left in ("grad_scale", "found_inf"):  # GradScaler takes them away after a step that went well
                self.__dict__.pop(left, None)
            raise
        finally:
            self._excursion.by_closures = False

    def _step_by_closures(self, closure: Closure | Sequence[Closure]) -> Any:
        closures = [closure] if callable(closure) else list(closure)
        require(bool(closures), "a sequence of closures must not be empty")
        require(
            getattr(self, "found_inf", None) is None,
            "a GradScaler's step takes no closure with SAM; take first_step(), and scaler.step(optimizer) after the "
            "second backward pass",
        )
        if len(closures) == 1:
            refuse_accumulation_by_accelerate()
            if not self.perturbs() and not self._combines:
                return self._base_step(torch.enable_grad()(closures[0]))
        loss = self._evaluate(closures)
        versions: list[int] | None = self._versions()

        def again() -> Any:
            """For the base: the evaluation made already, and another one from where its own moves led."""
            nonlocal versions
            fresh, versions = versions == self._versions(), None
            return loss if fresh else self._evaluate(closures)

        answer = self._base_step(again)
        return loss if answer is None else answer

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False, *, grad_scale: float | Tensor | None = None) -> None:
        """Go from θ to θ + ε by the gradients at hand, and clear them, whatever ``zero_grad`` says.

        ``grad_scale`` (``GradScaler.get_scale()``) matters only where scaled gradients meet ``decay_in_ascent`` or a
        variant that mixes gradients; those refuse to do without.
        """
        me, excursion = self._excursion.owner, self._excursion
        require(
            not excursion.begun,
            "first_step() begins at θ, and it has been taken already; inside accelerate's accumulate() take it only "
            "where accelerator.sync_gradients holds",
        )
        require(
            not me._base_needs_closure,
            f"{type(me.base).__name__} evaluates several times in a step; use step(closure)",
        )
        excursion.forget()
        excursion.begun, excursion.scale = True, grad_scale
        excursion.unscaled = me._unscale_check.changed()
        if grad_scale is not None:
            me._divide_gradients(torch.as_tensor(grad_scale))
        excursion.expects_gradient = any(p.grad is not None for p in me._all_parameters())
        try:
            if me.perturbs():
                me._leave(me._refuse_between)
            me._arrive()
        except BaseException:
            me.restore()
            raise

    def second_step(self, zero_grad: bool = False) -> None:
        """Go back to θ and take the base's step with the gradients at hand, those of θ + ε."""
        self.step()
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Go back to θ without a step: to leave out a batch between `first_step` and `second_step`."""
        self._excursion.back()
        self._excursion.forget()
        self._excursion.owner._remembered.clear()

    def _evaluate(self, closures: Sequence[Closure]) -> Any:
        """Leave in ``.grad`` the sum of every closure's combined gradient, weights at θ; return the loss at θ."""
        loss: Any = None
        total: dict[Tensor, Tensor] = {}
        for number, closure in enumerate(closures):
            if number:
                self.zero_grad()
            here = self._evaluate_one(torch.enable_grad()(closure))
            loss = here if loss is None else loss if here is None else loss + here
            for p in self._all_parameters() if len(closures) > 1 else ():
                if p.grad is not None:
                    total[p] = total[p] + p.grad if p in total else p.grad
        for p, gradient in total.items():
            p.grad = gradient
        return loss

    def _evaluate_one(self, closure: Closure) -> Any:
        check = ClearingCheck(self._all_parameters())
        model: Any = self._model
        with model.no_sync() if self.m == "rank" else nullcontext():
            loss = closure()
        check.require_cleared()
        if self.perturbs():

            def anew() -> Any:
                self._arrive()
                return closure()

            try:
                self._leave(anew)
                anew()
            except BaseException:
                self.restore()
                raise
            self._excursion.back()
        self._combine()
        return loss

    @torch.no_grad()
    def _leave(self, closure: Closure) -> None:
        """Move to θ + ε; gradients at θ are kept where they are needed again."""
        if self._combines:
            self._excursion.first = {p: p.grad for p in self._all_parameters() if p.grad is not None}
        self.ascend(closure)

    def _arrive(self) -> None:
        """Make ready for an evaluation at another place than the last one."""
        torch.clear_autocast_cache()  # which holds weights of that place in half precision
        for p in self._all_parameters():  # zero_grad() with its record for profilers takes six times as long
            p.grad = None
        self._excursion.statistics.hold()

    def _second_step(self, closure: Any) -> Any:
        try:
            require(closure is None or callable(closure), "after first_step() step takes one closure")
            loss = None if closure is None else torch.enable_grad()(closure)()
        except BaseException:
            self.restore()
            raise
        self._excursion.back()
        return self._step_with_scaler(loss)

    def _step_at_hand(self) -> Any:
        """Step with the gradients at θ where they are all that is needed.

        Gradients of zeros are: that is how torch.distributed.checkpoint has a fresh optimizer make its state.
        """
        gradients = [p.grad for p in self._all_parameters() if p.grad is not None]
        perturbs = self.perturbs()
        require(
            not perturbs or (gradients and not any(bool((local(g) != 0).any()) for g in gradients)),
            "SAM needs the gradient at θ and at θ + ε: pass step a closure, or take first_step() after the first "
            "backward pass; where a trainer hands on no closure (Lightning's 16-mixed), by manual optimization",
        )
        self._excursion.forget()
        if perturbs:
            self._leave(self._refuse_between)
            self._excursion.back()
        return self._step_with_scaler(None, counts=not perturbs)

    @torch.no_grad()
    def _step_with_scaler(self, loss: Any, counts: bool = True) -> Any:
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        excursion = self._excursion
        try:
            if found_inf is not None:
                check_scaling(excursion, scale, self._mixes_gradients and self.perturbs())
                if bool(found_inf):
                    self._remembered.clear()
                    return None
            require(
                not excursion.expects_gradient or any(p.grad is not None for p in self._all_parameters()),
                "there is no gradient at θ + ε; run a backward pass between first_step() and the second step",
            )
            if scale is not None:
                self._divide_gradients(scale)
            self._combine()
        finally:
            excursion.forget()
        answer = self._base_step(None, counts)
        return loss if answer is None else answer

    def _combine(self) -> None:
        """Put in ``.grad`` what the base is to step with."""
        if not self._combines:
            return
        first, self._excursion.first = self._excursion.first, None
        there = {p: p.grad for p in self._all_parameters() if p.grad is not None}
        parameters = [p for p in self._all_parameters() if p in there or p in (first or ())]
        if not parameters:
            return
        with torch.no_grad():

            def of(given: dict[Tensor, Tensor]) -> list[Tensor]:
                return [given[p] if p in given else torch.zeros_like(p) for p in parameters]

            one, two = (of(there), None) if first is None else (of(first), of(there))
            for p, gradient in zip(parameters, self.combination(parameters, one, two), strict=True):
                p.grad = gradient

    def _base_step(self, closure: Closure | None, counts: bool = True) -> Any:
        takes_closure = closure is not None and self._base_takes_closure
        answer = self.base.step(closure) if takes_closure else self.base.step()
        for p, tensors in self._remembered.items():
            self.state[p].update(tensors)
        self._remembered.clear()
        if counts:
            self.stepped()
        return answer

    # -- the state -----------------------------------------------------------------------------------

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

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state and groups; refused at θ + ε, where the model's weights are not its own."""
        require(not self._excursion.away, "a state is saved at θ; take second_step() or restore() first")
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer, or one of its base: its groups then keep the choices they have."""
        groups = [
            {key: value for key, value in now.items() if key.startswith("sam_")} | saved
            for now, saved in zip(self.param_groups, state_dict["param_groups"], strict=False)
        ]
        same = len(groups) == len(state_dict["param_groups"])  # else left for torch to refuse
        super().load_state_dict({**state_dict, "param_groups": groups} if same else state_dict)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("base", "m", "_model", "_excursion")
        return super().__getstate__() | {key: self.__dict__[key] for key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also where ``load_state_dict`` ends: the base gets what was loaded, and it stays one thing."""
        super().__setstate__({"_remembered": {}} | state)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        self._be_one_with_base()

    def _be_one_with_base(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state
        self._excursion.belongs_to(self)
        self._unscale_check = UnscaleCheck(self._all_parameters(), self._excursion)
        given = inspect.signature(self.base.step).parameters.values()
        by_position = [p for p in given if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        self._base_takes_closure = bool(by_position)
        self._base_needs_closure = any(
            p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in by_position
        )

    @property
    def _combines(self) -> bool:
        return type(self).combination is not SharpnessAware.combination

    @property
    def _mixes_gradients(self) -> bool:
        """Whether a step depends on the loss scale of the gradients at θ, not on their direction alone."""
        return self._combines or any(group["sam_decay_in_ascent"] for group in self.param_groups)

    @torch.no_grad()
    def _divide_gradients(self, scale: Tensor) -> None:
        inverse = scale.double().reciprocal().float()  # as GradScaler.unscale_ does, to the bit
        for p in self._all_parameters():
            if p.grad is not None:
                p.grad.mul_(inverse.to(p.grad.device))

    def _versions(self) -> list[int]:
        return [p._version for p in self._all_parameters()]

    def _all_parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _refuse_between(self) -> None:
        raise InputError(f"{type(self).__name__} evaluates more than twice in a step; use step(closure)")

    def _complete(self, group: dict[str, Any]) -> None:
        """Give a group the choices it does not make itself, and check them all."""
        for key, value in self.base.defaults.items():
            group.setdefault(key, value)
        self.check_group(group)

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise `InputError` for choices of a group that cannot be worked with."""
