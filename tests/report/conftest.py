"""A study's tables and the page made of them, built once."""

import pytest

from report.synthetic_study import AXES, INFO, study
from sharpscope.report import build_page


@pytest.fixture(scope="session")
def tables():
    return study()


@pytest.fixture(scope="session")
def page(tables):
    return build_page("A study", "What it is about.", *tables, AXES, {"version": "9.9"}, INFO, resamples=300)
