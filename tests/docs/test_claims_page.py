"""The page on claims: its claims are read, its snippet runs, its table of kinds is whole."""

import re
import tomllib
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from sharpscope.analysis.caveats import UNTRAINED
from sharpscope.analysis.claims import KINDS, read_claims
from sharpscope.analysis.claims.confidence import Anytime
from sharpscope.analysis.claims.contrast import POOL_UNLESS, POOL_UNLESS_FEW, UNEQUAL, UNEQUAL_FEW
from sharpscope.analysis.claims.power import CHANCE

PAGE = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")


def test_every_claim_on_the_page_is_one():
    snippets = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    claims = [claim for text in snippets for claim in tomllib.loads(text)["experiments"]["claims"]]
    assert [claim.id for claim in read_claims(claims)] == ["K2", "K9", "C2", "C6"]


def test_the_snippet_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "claims.md", "exec"), {"__name__": "snippet"})
    assert capsys.readouterr().out.startswith("supported Effect(name='ratio of lambda_max")


def test_every_kind_and_key_stands_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", PAGE, flags=re.MULTILINE))
    assert list(rows) == list(KINDS)
    common = {"id", "statement", "where", "source", "cluster", "control", "level", "kind"} | {
        "requires",
        "matters",
    }
    for kind, keys in rows.items():
        assert set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", keys)))) == (
            set(KINDS[kind].model_fields) - common
        ), kind


def test_every_number_outside_the_benchmarks_tables_is_computed_or_a_rule():
    """The tables are the benchmark's (tests/analysis/test_simulated_verdicts.py); here is all that stands between."""
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->|```.*?```|`[^`]*`", "", PAGE, flags=re.DOTALL)
    found = set(re.findall(r"(?<![\w.])\d+(?:[. ]\d+)*", text))
    default = KINDS["trend"].model_fields["level"].default
    computed = {
        *(f"{student.ppf(0.975, freedom):.3g}" for freedom in (1, 2, np.inf)),  # Student's quantiles
        f"{1 / 0.05:.0f}",  # the e-value that rejects
        f"{Anytime.__dataclass_fields__['prior'].default:.0f}",
        f"{100 * CHANCE:.0f}",
        f"{default:g}",
        *(f"{level:g}" for level in (POOL_UNLESS_FEW, POOL_UNLESS, UNEQUAL, *UNEQUAL_FEW.values())),
        f"{100 * default:.0f}",
        f"{1 - default:.2g}",
        f"{100 * (1 - UNTRAINED):.0f}",
        "1.1",  # matters = 0.1 as a factor
        "93",  # what the linear program of benchmarks/verdicts.py asks for where slopes differ
        *("0", "1", "2", "8", "100"),  # counts in sentences: 2 × 4 = 8 degrees of freedom, 95 of 100 tables
        *("1946", "1955", "1977", "2020"),  # years
    }
    assert found <= computed, found - computed
    assert {"12.7", "4.3", "1.96", "20", "4"} <= found
