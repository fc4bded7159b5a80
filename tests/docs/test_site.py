"""The documentation hangs together: every link leads somewhere, every page is found, every tutorial is code.

`make docs` builds the site, executes the tutorials and takes every warning for an error; what needs no build is here.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import yaml

import sharpscope

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md", *DOCS.rglob("*.md")])
NO_PAGE = {DOCS / "results" / "preface.md"}
"""Markdown that is a part of another page."""


@cache
def prose(page: Path) -> str:
    """Return a page without its blocks and spans of code, in which nothing is a link or a heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda span: re.sub(r"[\[\]()]", "", span[0]), text)


@cache
def links(page: Path) -> tuple[tuple[str, str], ...]:
    """Return (target, anchor) of every link and picture that is no address."""
    found = re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", prose(page))
    return tuple((target, anchor) for target, anchor in found if ":" not in target)


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


def targets(page: Path) -> set[Path]:
    return {(page.parent / target).resolve() for target, _ in links(page) if target}


@cache
def configuration() -> dict[str, object]:
    return dict(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8")))


def in_nav(entry: object) -> list[str]:
    """Return the pages of a part of the site's navigation, in order."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in in_nav(part)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path):
    for target, anchor in links(page):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_is_two_clicks_from_the_readme():
    first = targets(ROOT / "README.md")
    second = {page for one in first if one.suffix == ".md" for page in targets(one)}
    assert [
        page for page in PAGES if page.is_relative_to(DOCS) and page not in first | second | NO_PAGE
    ] == []


def test_the_navigation_has_every_page_once():
    listed = in_nav(configuration()["nav"])
    assert len(set(listed)) == len(listed)
    here = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if page not in NO_PAGE}
    results = {page for page in here if page.startswith("results/") and page != "results/README.md"}
    assert set(listed) == here - results


def test_every_picture_says_what_it_shows():
    for page in PAGES:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", prose(page)):
            assert len(words) > 10, f"{page.name}: {target}"


@pytest.mark.parametrize("page", sorted((DOCS / "tutorials").glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_is_code(page: Path):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 1
    for block in blocks:
        ast.parse(block)


def test_the_reference_has_the_whole_public_surface():
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: sharpscope\.(\w+)$", page, re.MULTILINE)) == sorted(sharpscope.__all__)
