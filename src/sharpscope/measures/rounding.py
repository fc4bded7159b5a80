"""What rounding the weights to a few bits costs: an outcome that flatness is said to foretell."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection


@register(
    "rounding_rise",
    title="Rise of the loss under rounding",
    symbol="L(round(θ)) − L(θ)",
    definition="Rise of the loss when every weight matrix is rounded to a grid of 2^bits − 1 points, one grid a row.",
    source="Jacob et al. 2018; Nagel et al. 2021, section 2 (symmetric, per channel)",
    unit="loss",
    cost="2 losses",
)
def rounding_rise(obj: Objective, bits: int = 4, params: Selection = None) -> Estimate:
    """Return L(round(θ)) − L(θ), every weight of two or more dimensions rounded to its row's nearest grid point.

    The grid of a row w (the weights of one output) is s · {−m, …, m}, m = 2^(bits − 1) − 1, s = max|w| / m. Biases
    and normalisations stay as they are. ``params`` chooses which weights are rounded; the others stay.

    Raises `InputError` for fewer than 2 bits or more than 16, and where no weight of two dimensions is measured.

    Examples
    --------
    With two bits a row is rounded to −1, 0 or 1 times its largest entry:

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.4]]))
    >>> square = lambda outputs, targets: outputs.square().mean()
    >>> obj = Objective(model, square, (torch.eye(2).double(), torch.ones(2)))
    >>> round(rounding_rise(obj, bits=2).value, 6)
    -0.08

    """
    if not 2 <= bits <= 16:
        raise InputError(f"bits must be between 2 and 16, received {bits}; 4 and 8 are usual")
    chosen = obj.layout.names if params is None else obj.with_params(params).layout.names
    weights = obj.layout.split(obj.flat())
    matrices = [name for name in chosen if weights[name].ndim > 1]
    if not matrices:
        raise InputError("rounding_rise needs a weight matrix, received vectors only; measure more")
    cost = CostMeter(obj)
    moved = {name: rounded(weight, bits) if name in matrices else weight for name, weight in weights.items()}
    value = obj.loss(obj.layout.join(moved.values())) - obj.loss()
    shares = {} if params is None else {"params": "predicate" if callable(params) else params}
    return Estimate(
        "rounding_rise",
        value,
        cost=cost.total(),
        protocol={"bits": bits, "matrices": len(matrices), **shares, **obj.protocol},
        fingerprint=obj.fingerprint,
    )


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return a weight (out, ...) with every row on its own symmetric grid of 2^bits − 1 points; a zero row stays.

    >>> rounded(torch.tensor([[1.0, 0.4, -0.6]]), 2)
    tensor([[ 1.,  0., -1.]])
    """
    most = 2 ** (bits - 1) - 1
    rows = weight.flatten(1)
    step = rows.abs().amax(1, keepdim=True) / most  # (out, 1)
    step = torch.where(step > 0, step, torch.ones_like(step))
    return ((rows / step).round() * step).reshape(weight.shape)
