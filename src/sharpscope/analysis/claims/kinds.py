"""The kinds of claim that stand alone, and the type that reads any of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sharpscope.analysis.claims.basin_width import BasinWidths
from sharpscope.analysis.claims.bound import Bound
from sharpscope.analysis.claims.correlation import Correlation
from sharpscope.analysis.claims.crossing import Crossing
from sharpscope.analysis.claims.curve import Curve
from sharpscope.analysis.claims.curve_distance import CurveDistance
from sharpscope.analysis.claims.flat import Flat
from sharpscope.analysis.claims.interaction import Interaction
from sharpscope.analysis.claims.invariance import Invariance
from sharpscope.analysis.claims.matched import Matched
from sharpscope.analysis.claims.optimum import Optimum
from sharpscope.analysis.claims.paired import Paired
from sharpscope.analysis.claims.trend import Trend
from sharpscope.analysis.claims.variance_ratio import VarianceRatio

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
