"""Statistics of finished runs: tables in, tables out.

- correlation: `correlations`, `partial_correlations` (the control for training loss)
- spread: `summarise`, `summaries` (means with intervals over seeds)
- what to know before believing a number: `warnings`, `Caveat`
- claims as data and their verdicts: `sharpscope.analysis.claims`
- measures ranked as predictors: `sharpscope.analysis.league`
- tables: `measure_names`, `wide_measures`, `finished`
"""

from __future__ import annotations

from sharpscope.analysis.caveats import Caveat, warnings
from sharpscope.analysis.correlations import TARGETS, correlations, partial_correlations
from sharpscope.analysis.summaries import summaries, summarise
from sharpscope.analysis.tables import finished, measure_names, wide_measures

__all__ = [
    "TARGETS",
    "Caveat",
    "correlations",
    "finished",
    "measure_names",
    "partial_correlations",
    "summaries",
    "summarise",
    "warnings",
    "wide_measures",
]
