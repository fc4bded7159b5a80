"""What the page says, that it escapes what it says, and that it stands on its own."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from report.synthetic_study import AXES, INFO, study
from sharpscope.errors import InputError
from sharpscope.report import build_page

SCRIPT = "<script>alert(1)</script>"
BREAKOUT = '</script></style><img src=x onerror=alert(2)> "q\'" & [a.b] \\ ${x} {{ 7 * 7 }} <!--'


class Parsed(HTMLParser):
    """The page's elements, its text, and the text of each script."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.scripts, self.text, self._stack = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._stack.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data):
        if self._stack and self._stack[-1] == "script":
            self.scripts[-1] += data
        elif not self._stack or self._stack[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())


def small(page_tables, **changes):
    return build_page("t", "", *page_tables, AXES, measure_info=INFO, resamples=50, **changes)


def test_same_tables_give_the_same_bytes(tables, page):
    again = build_page("A study", "What it is about.", *tables, AXES, {"version": "9.9"}, INFO, resamples=300)
    assert page == again


def test_it_says_what_ran_what_was_found_and_what_to_doubt(page):
    words = Parsed(page).words
    assert "48 runs 1 diverged" in words
    assert "16 configurations" in words
    assert "0.01, 0.03, 0.1, 0.3" in words
    assert "1 of 48 runs diverged" in words
    assert "stopped at unequal training losses" in words
    assert "did not converge in 2 of 47 runs" in words
    assert "5 of 6 measures go with test loss." in words
    assert "given training loss" in words


def test_its_policy_admits_exactly_its_own_scripts(page):
    parsed = Parsed(page)
    policy = next(a["content"] for tag, a in parsed.elements if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    data, *code = parsed.scripts
    json.loads(data)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in code}
    assert hashes == set(re.findall(r"'sha256-[^']+'", policy))


def test_nothing_is_fetched(page):
    for tag, attributes in Parsed(page).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")


def test_hostile_text_stays_text():
    runs, measures, history = study(
        rates=(0.1, 0.3),
        seeds=2,
        epochs=3,
        names={"lambda_max": SCRIPT, "trace": BREAKOUT, "optimizer": {"sgd": BREAKOUT}},
    )
    runs = runs.rename(columns={"lr": 'l.r["x"]' + SCRIPT}).assign(stop_reason=BREAKOUT, data=SCRIPT)
    for table in (runs, measures, history):
        table["run_id"] += BREAKOUT
    page = build_page(
        SCRIPT,
        BREAKOUT,
        runs,
        measures,
        history,
        ["optimizer", 'l.r["x"]' + SCRIPT, "batch_size"],
        {"study": BREAKOUT, "command": SCRIPT, "citation": BREAKOUT, "version": SCRIPT, BREAKOUT: SCRIPT},
        {SCRIPT: {"title": BREAKOUT, "symbol": SCRIPT, "definition": BREAKOUT, "unit": SCRIPT}},
        [BREAKOUT],
        resamples=50,
    )
    parsed = Parsed(page)
    tags = [tag for tag, _ in parsed.elements]
    assert tags.count("script") == 3
    assert tags.count("style") == 1
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert parsed.words.count("alert(2)") > 5
    assert "{{ 7 * 7 }}" in parsed.words
    charts = json.loads(parsed.scripts[0])["charts"].values()
    assert any(SCRIPT in chart["title"] for chart in charts)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r, m, h: (r[20:21], m[m["run_id"].isin(r["run_id"][20:21])], h), "1 run 1 configuration"),
        (lambda r, m, h: (r[r["seed"] == 1], m, h), "with a single seed"),
        (lambda r, m, h: (r, m[:0], h), "the store holds no measures yet"),
        (lambda r, m, h: (r, pd.DataFrame(), pd.DataFrame()), "the store holds no measures yet"),
        (
            lambda r, m, h: (r.assign(status="diverged", test_loss=np.nan, gap=np.nan), m, h),
            "Every run diverged",
        ),
        (lambda r, m, h: (r[:0], m[:0], h[:0]), "The store holds no runs yet"),
        (lambda r, m, h: (r.drop(columns="seed"), m, h), "48 runs"),
        (lambda r, m, h: (r, m.assign(value=np.nan), h), "has no finite value for 47 of 47"),
        (lambda r, m, h: (r.assign(test_accuracy=np.nan, parameters=None), m, h), "6 measures"),
        (
            lambda r, m, h: (
                r.assign(batch_size=r["batch_size"].astype(object).where(r["lr"] > 0.02, "full")),
                m,
                h,
            ),
            "16, 128, full",
        ),
        (
            lambda r, m, h: (r.assign(configuration="one", lr=0.1, optimizer="sgd", batch_size=8), m, h),
            "From 47 runs;",
        ),
    ],
)
def test_odd_studies_still_give_a_page(tables, change, expected):
    assert expected in Parsed(small(change(*tables))).words


def test_an_axis_that_is_no_column_is_refused(tables):
    with pytest.raises(InputError, match="got 'rho'"):
        build_page("t", "", *tables, ["rho"])


def test_every_label_of_a_chart_and_control_is_named(page):
    for tag, attributes in Parsed(page).elements:
        if attributes.get("role") in ("img", "region"):
            assert attributes["aria-label"].strip()
        if tag == "th":
            assert attributes["scope"] in ("col", "row")


def test_settings_drawn_at_random_are_told_by_their_ends_and_not_filtered_by():
    rates = tuple(round(0.001 * 1.1**i, 6) for i in range(45))
    tables = study(rates, batches=(16,), seeds=1, epochs=2, diverged=False)
    page = small(tables)
    parsed = Parsed(page)
    assert "0.001 to 0.066264, 45 values" in parsed.words
    options = [attributes.get("value") for tag, attributes in parsed.elements if tag == "option"]
    assert "adagrad" in options
    assert "0.001" not in options
    assert "every run a point" in page
    assert "falls from learning rate" not in page
