"""Claims as data: what a paper says about runs, judged on the runs' tables.

- `Claim`: reads a claim of any kind; `KINDS`: the kinds by name; `read_claims`: tables to claims, errors in words
- `Evidence`: the tables that claims are judged on
- `assess`: claims and evidence to verdicts; `Verdict`, `Effect`, `Control`: what is found; `verdicts_table`
"""

from __future__ import annotations

from sharpscope.analysis.claims.assessment import assess
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.kinds import KINDS, Claim, read_claims
from sharpscope.analysis.claims.verdict import Control, Effect, Verdict, verdicts_table

__all__ = [
    "KINDS",
    "Claim",
    "Control",
    "Effect",
    "Evidence",
    "Verdict",
    "assess",
    "read_claims",
    "verdicts_table",
]
