"""The kinds of claim, one file each, and the reading of a claim of any kind.

`KINDS` lists them by name; `read_claims` reads claims from tables of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from sharpscope.analysis.claims.claim import NamedClaim
from sharpscope.analysis.claims.kinds.basin_width import BasinWidths
from sharpscope.analysis.claims.kinds.bound import Bound
from sharpscope.analysis.claims.kinds.correlation import Correlation
from sharpscope.analysis.claims.kinds.crossing import Crossing
from sharpscope.analysis.claims.kinds.curve import Curve
from sharpscope.analysis.claims.kinds.curve_distance import CurveDistance
from sharpscope.analysis.claims.kinds.flat import Flat
from sharpscope.analysis.claims.kinds.interaction import Interaction
from sharpscope.analysis.claims.kinds.invariance import Invariance
from sharpscope.analysis.claims.kinds.matched import Matched
from sharpscope.analysis.claims.kinds.optimum import Optimum
from sharpscope.analysis.claims.kinds.paired import Paired
from sharpscope.analysis.claims.kinds.ratio_law import RatioLaw
from sharpscope.analysis.claims.kinds.trend import Trend
from sharpscope.analysis.claims.kinds.variance_ratio import VarianceRatio
from sharpscope.analysis.claims.requirements import Requirements
from sharpscope.errors import InputError
from sharpscope.serialization import explain

Single = (
    Trend
    | Flat
    | Paired
    | Curve
    | Matched
    | Interaction
    | Crossing
    | Optimum
    | CurveDistance
    | BasinWidths
    | VarianceRatio
    | Correlation
    | Invariance
    | Bound
    | RatioLaw
)
"""A claim that is no conjunction."""

Part = Annotated[Single, Field(discriminator="kind")]
"""Reads a claim that is no conjunction by its key ``kind``."""


class Conjunction(NamedClaim):
    """All of ``claims`` hold; a part's rows must meet this claim's ``where`` besides its own.

    Supported where every part is; contradicted where any part is at Holm's level for so many parts, of which one that
    chance contradicts on one side alone counts half; inconclusive otherwise. ``requires`` holds for the parts that
    have none of their own.
    """

    kind: Literal["all"]
    requires: Requirements | None = None
    claims: Annotated[list[Part], Field(min_length=1)]


Claim = Annotated[Single | Conjunction, Field(discriminator="kind")]
"""A claim of any kind, told apart by its key ``kind``: a type for a pydantic field or ``TypeAdapter``."""

KINDS: dict[str, type[NamedClaim]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model for model in (*get_args(Single), Conjunction)
}
"""The models by kind, in the order in which they are documented."""


def read_claims(contents: Sequence[Any]) -> list[Single | Conjunction]:
    """Return claims written as tables of keys, each with an ``id`` of its own and a ``statement``.

    Raises `InputError`, one sentence naming the claim, the key and the rule.

    >>> claims = read_claims([{"id": "K1", "statement": "Accuracy rises with the rate.", "kind": "trend",
    ...                        "x": "lr", "y": "test_accuracy", "direction": "rising"}])
    >>> claims[0].direction
    'rising'
    >>> read_claims([{"id": "K1", "statement": "Accuracy rises.", "kind": "tend"}])
    Traceback (most recent call last):
    ...
    sharpscope.errors.InputError: claim 'K1': kind must be one of trend, flat, paired, curve, matched, interaction,
    crossing, optimum, curve_distance, basin_width, variance_ratio, correlation, invariance, bound, ratio_law, all;
    received 'tend'
    """
    claims: list[Single | Conjunction] = []
    for number, content in enumerate(contents, 1):
        claim = _read(content, f"claim {number}")
        for key in ("id", "statement"):
            if not getattr(claim, key).strip():
                raise InputError(
                    f"claim {content.get('id') or number!r}: {key} is missing: a claim must give it"
                )
        if claim.id in {other.id for other in claims}:
            raise InputError(f"every claim needs an id of its own, {claim.id!r} is given twice; rename one")
        claims.append(claim)
    return claims


def _read(content: Any, name: str) -> Single | Conjunction:
    if not isinstance(content, Mapping):
        raise InputError(f"{name} must be a table of keys; received {content!r}")
    name = f"claim {content['id']!r}" if isinstance(content.get("id"), str) else name
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        received = "and it is missing" if kind is None else f"received {kind!r}"
        raise InputError(f"{name}: kind must be one of {', '.join(KINDS)}; {received}")
    if kind == "all" and isinstance(content.get("claims"), list):
        for number, part in enumerate(content["claims"], 1):
            if isinstance(part, Mapping) and part.get("kind") == "all":
                raise InputError(
                    f"{name}, part {number}: a part may not be of kind 'all'; list its parts here"
                )
            _read(part, f"{name}, part {number}")
    try:
        KINDS[kind].model_validate(content)
        return _ANY.validate_python(content)
    except ValidationError as error:
        raise InputError(f"{name}: {explain(error)}") from error


_ANY: TypeAdapter[Single | Conjunction] = TypeAdapter(Claim)
