"""The sentences follow from the intervals, and never claim more."""

import pandas as pd

from sharpscope.analysis.correlations import COLUMNS
from sharpscope.report.findings import findings


def row(measure, given, method, value, low, high, n=40, clusters=20):
    values = dict.fromkeys(COLUMNS, 0.0) | {"note": "", "target": "test_loss"}
    values |= {"measure": measure, "given": given, "method": method, "value": value, "low": low, "high": high}
    return values | {"n": n, "clusters": clusters}


def measured(measure, plain, tau, rho):
    return [
        row(measure, "", "kendall", *plain),
        row(measure, "train_loss", "kendall", *tau),
        row(measure, "train_loss", "spearman", *rho),
    ]


def one(*rows):
    (found,) = findings(pd.DataFrame([r for group in rows for r in group]), ["test_loss"], {})
    return found


CLEAR, UNCLEAR, OPPOSITE = (0.5, 0.3, 0.7), (0.1, -0.1, 0.3), (-0.4, -0.6, -0.2)
NAN = float("nan")


def test_a_relation_that_survives_the_control():
    found = one(measured("a", CLEAR, CLEAR, CLEAR), measured("b", UNCLEAR, UNCLEAR, UNCLEAR))
    assert found.headline == "1 of 2 measures goes with test loss."
    assert found.conclusion.startswith("It still does among runs of equal training loss.")
    assert found.lines[0].control.endswith("still there")
    assert found.lines[1].meaning == "no clear relation: the interval includes zero"


def test_a_remainder_of_tau_that_rho_does_not_confirm_counts_as_gone():
    found = one(measured("a", CLEAR, CLEAR, UNCLEAR), measured("b", CLEAR, CLEAR, CLEAR))
    by_title = {line.title: line.control for line in found.lines}
    assert by_title["a"].endswith("(partial ρ 0.10 [−0.10, 0.30]): no longer clear")
    assert "only b still does" in found.conclusion


def test_a_sign_that_turns_round_is_said():
    found = one(measured("a", CLEAR, OPPOSITE, OPPOSITE), measured("b", CLEAR, UNCLEAR, UNCLEAR))
    assert found.lines[0].control.endswith("the sign turns round")
    assert "not clear that any of them does" in found.conclusion


def test_without_intervals_nothing_is_claimed():
    bare = (0.9, NAN, NAN)
    found = one(measured("a", bare, bare, bare))
    assert "too few to say" in found.headline
    assert found.lines[0].meaning == "too few independent runs to say"


def test_strongest_first_and_negative_worded():
    found = one(
        measured("weak", CLEAR, CLEAR, CLEAR), measured("strong", (-0.9, -0.95, -0.8), *[UNCLEAR] * 2)
    )
    assert [line.title for line in found.lines] == ["strong", "weak"]
    assert found.lines[0].meaning == "higher values go with a lower test loss"
