"""The function that an optimizer sees: its steppable parameters, in the coordinates of its preconditioner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sharpscope.errors import InputError, NonFiniteError
from sharpscope.objective.graphs import ChunkProduct
from sharpscope.objective.objective import Objective
from sharpscope.objective.preconditioned import PreconditionedEvaluator, preconditioned
from sharpscope.optim.edge import Edge


def as_stepped(objective: Objective, edge: Edge) -> Objective | None:
    """Return an objective whose largest Hessian eigenvalue is to be compared with the edge; None for this one itself.

    Its Hessian is S (H + Γ) S over the parameters that are stepped, S and Γ those of the edge.

    Raises
    ------
    NonFiniteError
        Where the optimizer's state is not finite.
    InputError
        Where the optimizer steps none of the measured parameters.

    """
    live = dict(objective.model.named_parameters())
    names = objective.layout.names
    stepped = {name for name in names if live[name] in edge.scales}
    if not stepped:
        raise InputError(
            "the optimizer must step what is measured, and steps none of it; give the one that does"
        )
    whole = stepped == set(names)
    if not whole:
        objective = objective.with_params(lambda name, _: name in stepped)
    scale, penalty = (_laid_out(objective, values) for values in (edge.scales, edge.decays))
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise NonFiniteError("the optimizer's state must be finite, received NaN or infinite second moments")
    if bool((scale == 1).all()) and not bool(penalty.any()):
        return None if whole else objective
    view = preconditioned(objective, scale.double() ** -2)
    if bool(penalty.any()):
        assert isinstance(view.evaluator, PreconditionedEvaluator)
        view.evaluator = _WithPenalty.added(view.evaluator, penalty)
    return view


def _laid_out(objective: Objective, values: Mapping[Tensor, Tensor | float]) -> Tensor:
    """Return numbers or tensors by parameter as one vector (size,), 0 for those without."""
    live = dict(objective.model.named_parameters())
    parts = []
    for name, size in zip(objective.layout.names, objective.layout.sizes, strict=True):
        value = torch.as_tensor(values.get(live[name], 0.0)).detach().to(objective.device, objective.dtype)
        parts.append(value.reshape(-1).expand(size))
    return torch.cat(parts)


class _WithPenalty(PreconditionedEvaluator):
    """Adds S Γ S to every curvature product."""

    penalty: Tensor

    @classmethod
    def added(cls, evaluator: PreconditionedEvaluator, penalty: Tensor) -> _WithPenalty:
        self = cls.__new__(cls)
        self.__dict__.update(evaluator.__dict__)
        self.penalty = penalty * self.scale.square()
        return self

    def multiply(self, graphs: Iterable[tuple[ChunkProduct, float]], v: Tensor) -> Tensor:
        return super().multiply(graphs, v) + self.penalty * v.to(self.device, self.dtype)
