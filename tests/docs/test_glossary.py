"""The glossary defines each term once, in order."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^\*\*([^*]+)\.\*\*", TEXT, re.MULTILINE)


def test_each_term_is_defined_once():
    assert len(TERMS) > 50
    assert len(set(TERMS)) == len(TERMS)


def test_terms_are_in_order():
    def key(term: str) -> str:
        return term.replace("λ_max", "lambda_max").split(" (")[0].split(",")[0].casefold()

    paragraphs = re.findall(r"(?:^|\n\n)\*\*([^*]+)\.\*\*", TEXT)
    assert [key(t) for t in paragraphs] == sorted(key(t) for t in paragraphs)
