"""Claims as data: what a paper says about runs, judged on the runs' tables.

- `Claim`: reads a claim of any kind; `KINDS`: the kinds by name; `read_claims`: tables to claims, errors in words
- `Evidence`: the tables that claims are judged on
- `assess`: claims and evidence to verdicts; `Looks`: how often the runs were looked at while seeds were added
- `Verdict`, `Effect`, `Control`: what is found; `verdicts_table`; `open_claims`: what more seeds may decide
- `with_false_discovery`, `false_discovery_sentence`: many claims judged together
"""

from __future__ import annotations

from sharpscope.analysis.claims.assessment import assess
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.kinds import KINDS, Claim, read_claims
from sharpscope.analysis.claims.looks import Looks, look_level
from sharpscope.analysis.claims.requirements import check_requires
from sharpscope.analysis.claims.verdict import (
    Control,
    Effect,
    Verdict,
    false_discovery_sentence,
    open_claims,
    verdicts_table,
    with_false_discovery,
)

__all__ = [
    "KINDS",
    "Claim",
    "Control",
    "Effect",
    "Evidence",
    "Looks",
    "Verdict",
    "assess",
    "check_requires",
    "false_discovery_sentence",
    "look_level",
    "open_claims",
    "read_claims",
    "verdicts_table",
    "with_false_discovery",
]
