"""Claim kind ``all``: several claims at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sharpscope.analysis.claims.claim import NamedClaim
from sharpscope.analysis.claims.kinds.alone import Part


class Conjunction(NamedClaim):
    """All of ``claims`` hold; a part's rows must meet this claim's ``where`` besides its own.

    Supported where every part is, contradicted where any part is, inconclusive otherwise.
    """

    kind: Literal["all"]
    claims: Annotated[list[Part], Field(min_length=1)]
