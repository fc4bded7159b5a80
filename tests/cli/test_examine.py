"""``sharpscope examine``: a page from one command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sharpscope.cli.target import show_progress
from sharpscope.curvature.call_limits import CallProgress

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
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        code, _, err = cli(*ARGUMENTS, "-o", place)
        assert code == 2
        assert "--output takes a file in a folder that exists" in err


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpscope.cli.examine.os.access", lambda path, mode: False)
    monkeypatch.setattr("sharpscope.cli.target.load_target", None)  # whoever computes first fails
    code, _, err = cli(*ARGUMENTS, "-o", tmp_path / "p.html")
    assert code == 2
    assert "in a folder that can be written to" in err


def test_a_deadline_and_a_sample_are_said_on_the_page(cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = cli(*ARGUMENTS, "--without", "surface,audit,density", "--deadline", "20s", "-o", page)
    assert code == 0
    assert "drawn at random from" in out
    assert "interval for" in out
    assert "What was measured" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["soon", "0", "0s", "-3s", "15 x", "", "1m5", "30m1h", "90", "infh"])
def test_a_deadline_that_is_no_time_is_refused(cli, text: str, tmp_path: Path) -> None:
    code, _, err = cli(*ARGUMENTS, f"--deadline={text}", "-o", tmp_path / "p.html")
    assert code == 2
    assert "--deadline must be a time such as 90s, 15m, 1h30m or 1d" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("part", "kept"), [("top_eigenvalues", False), ("spectral_density", True)])
def test_ctrl_c_keeps_the_parts_that_are_done(
    cli, monkeypatch, tmp_path: Path, part: str, kept: bool
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"sharpscope.examination.measurements.{part}", interrupted)
    page = tmp_path / "page.html"
    code, out, err = cli(*ARGUMENTS, "-o", page)
    assert code == 130
    assert "Traceback" not in out + err
    assert page.exists() == kept
    if kept:
        text = page.read_text(encoding="utf-8")
        assert "trace" in text
        assert "it was interrupted" in text
        assert "with what was measured before the interrupt" in out


def test_a_line_of_progress_fits_the_terminal(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    show_progress(CallProgress("examine", 1, None, "part", 1.0, 1.0, "a long note " * 9))
    show_progress(CallProgress("examine", 2, 2, "part", 1.0, 1.0))
    first, _, rest = capsys.readouterr().err.partition("\rexamine: a part takes about 1 s, 2")
    assert len(first) == 40  # it goes back to the start, and leaves the last column free
    assert rest.endswith("\n")
