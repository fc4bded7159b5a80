"""The index of several studies' reports: every claim, its verdict, and where to read more."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from sharpscope.analysis.claims.verdict import Verdict
from sharpscope.report.verdicts import verdict_rows

Listed = tuple[str, str, str, Sequence[Verdict]]
"""A study's key, its title, the address of its page, its verdicts."""


def build_index(title: str, studies: Sequence[Listed], version: str = "") -> str:
    """Return one HTML page with a table of all claims; the same arguments give the same bytes."""
    from jinja2 import Environment, StrictUndefined

    from sharpscope.report.page import safe, symbols

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["symbols"] = symbols
    folder = resources.files("sharpscope.report")
    template = folder.joinpath("index.html.j2").read_text(encoding="utf-8")
    counts: dict[str, int] = {}
    for _, _, _, verdicts in studies:
        for verdict in verdicts:
            counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    return environment.from_string(template).render(
        title=title,
        version=version,
        counts=sorted(counts.items()),
        studies=[(key, name, address, verdict_rows(verdicts)) for key, name, address, verdicts in studies],
        css=safe(folder.joinpath("page.css").read_text(encoding="utf-8")),
    )
