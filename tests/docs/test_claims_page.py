"""The page on claims: its claims are read, its snippet runs, its table of kinds is whole."""

import re
import tomllib
from pathlib import Path

from sharpscope.analysis.claims import KINDS, read_claims

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
