"""``sharpscope examine``: a page from one command."""

from __future__ import annotations

import json
from pathlib import Path

ARGUMENTS = ("examine", "mlp", "--data", "digits", "--samples", 60, "--option", "hidden=[4]", "--k", 1)


def test_it_prints_a_summary_and_writes_a_page(cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = cli(*ARGUMENTS, "--without", "surface", "-o", page)
    assert code == 0
    assert out.startswith("λ_max = ")
    assert f"page: {page}" in out
    text = page.read_text(encoding="utf-8")
    assert "mlp on digits" in text
    assert "Curvature by layer" in text


def test_json_holds_every_number(cli, tmp_path: Path) -> None:
    without = "surface,density,audit,worst_case,average_direction"
    code, out, _ = cli(*ARGUMENTS, "--json", "--without", without, "-o", tmp_path / "p.html")
    assert code == 0
    found = json.loads(out)
    assert {row["measure"] for row in found["numbers"]} >= {"loss", "lambda_1", "lambda_-1", "trace"}


def test_what_it_refuses(cli, tmp_path: Path) -> None:
    code, _, err = cli(*ARGUMENTS, "--without", "eigenvalue", "-o", tmp_path / "p.html")
    assert code == 2
    assert "without takes names from" in err
    code, _, err = cli(*ARGUMENTS, "-o", tmp_path / "no" / "p.html")
    assert code == 2
    assert "--output takes a file in a folder that exists" in err
    assert not list(tmp_path.iterdir())
