"""A study's tables and the page made of them, built once."""

import pytest

from report.synthetic_figures import figures
from report.synthetic_study import AXES, INFO, study
from sharpscope.analysis.claims.verdict import Control, Effect, Verdict
from sharpscope.report import build_page


@pytest.fixture(scope="session")
def tables():
    return study()


@pytest.fixture(scope="session")
def page(tables):
    return build_page("A study", "What it is about.", *tables, AXES, {"version": "9.9"}, INFO, resamples=300)


@pytest.fixture(scope="session")
def whole_page(tables):
    """A page with everything a page can have: a figure of every kind, verdicts, configurations to copy."""
    runs = tables[0]
    configs = {
        run: {"model": "mlp", "batch_size": int(b)}
        for run, b in zip(runs["run_id"], runs["batch_size"], strict=True)
    }
    return build_page(
        "A study",
        "What it is about.",
        *tables,
        AXES,
        measure_info=INFO,
        verdicts=[verdict()],
        figures=figures(*tables),
        configs=configs,
        resamples=100,
    )


def verdict():
    losses = (0.01, 0.4)
    control = Control("train_loss", Effect("partial τ_b", 0.1, -0.2, 0.4), losses, (0.9, 1.0))
    return Verdict(
        "K1",
        "λ_max falls with the rate.",
        "trend",
        "supported",
        "Its interval lies below 0.",
        Effect("τ_b of lambda_max on lr", -0.6, -0.8, -0.4),
        (),
        47,
        3,
        "smoke",
        control,
        ("The settings compared stopped at unequal training losses.",),
        "Another seed.",
    )
