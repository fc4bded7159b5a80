"""The largest relative change of a measure under function-preserving rescalings, as a measure itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.measures.invariance.audit import audit
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective


@register(
    "rescaling_change",
    title="Change under function-preserving rescalings",
    symbol="max |Δ| / |value|",
    definition="The largest relative change of a measure, the adaptive worst case unless stated, when channels are "
    "rescaled at random without changing the network's function.",
    source="hammoud2023; Dinh et al. 2017",
    unit="",
    cost="2 worst cases",
    rescaling_invariant=True,
)
def rescaling_change(
    obj: Objective,
    of: str = "worst_case",
    options: Mapping[str, Any] | None = None,
    repetitions: int = 1,
    spread: float = 4.0,
    step_size: float | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the largest relative change of a measure under random function-preserving rescalings.

    It is `sharpscope.audit` of the one measure ``of`` with its ``options``. The default is the adaptive worst-case
    sharpness, whose ball follows every rescaling: its change is zero. ``repetitions`` and ``spread`` are the audit's.
    ``step_size``, where given, is an option of the measure ``of``, so that a study can set it to each run's rate. The
    value has no unit; the protocol holds the value of ``of``. For hammoud2023's protocols (``of = "hammoud2023"``)
    the change is not zero: a plain gradient step does not follow the rescaling, even in the adaptive ball.

    Raises
    ------
    InputError
        As `sharpscope.audit`, in particular where nothing can be rescaled; and for ``of = "rescaling_change"``.

    Examples
    --------
    >>> import torch
    >>> from sharpscope import Objective
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    >>> obj = Objective(model, torch.nn.functional.cross_entropy, (torch.randn(9, 3), torch.arange(9) % 2))
    >>> rescaling_change(obj, options={"batch_size": 4, "restarts": 2}).value < 1e-9
    True
    >>> rescaling_change(obj, "gradient_norm").value > 1e-3
    True

    """
    if of == "rescaling_change":
        raise InputError(
            "of must name another measure, received 'rescaling_change'; for example 'worst_case' or 'lambda_max'"
        )
    chosen = {**(options or {}), **({} if step_size is None else {"step_size": step_size})}
    found = audit(obj, [{"measure": of, **chosen}], repetitions=repetitions, spread=spread, seed=seed)
    row = found.table.iloc[0]
    return Estimate(
        "rescaling_change",
        float(row["largest"]),
        converged=math.isfinite(row["largest"]),
        cost={name: float(row[name]) for name in ("losses", "gradients", "products", "seconds")},
        protocol={
            "of": of,
            "options": chosen,
            "of_value": float(row["value"]),
            "repetitions": repetitions,
            "spread": spread,
            "rescaled_channels": sum(group.channels for group in found.rescalings),
            "head_pairs": len(found.heads),
            "seed": seed,
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )
