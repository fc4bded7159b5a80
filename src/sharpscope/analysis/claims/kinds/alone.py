"""The kinds of claim that stand alone, and the type that reads any of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

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
from sharpscope.analysis.claims.kinds.trend import Trend
from sharpscope.analysis.claims.kinds.variance_ratio import VarianceRatio

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
)
"""A claim of one part."""

Part = Annotated[Single, Field(discriminator="kind")]
"""Reads a claim of one part by its ``kind``."""
