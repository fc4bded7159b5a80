"""The pages of results: all of them made by one program of what is landed, none contradicting another."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from sharpscope.analysis.claims import Evidence, assess, read_claims
from sharpscope.analysis.claims.conditions import holds
from sharpscope.analysis.claims.looks import Looks
from sharpscope.analysis.claims.requirements import TRAINED, missed
from sharpscope.analysis.claims.verdict import verdicts_table
from sharpscope.studies import load_studies

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
with pytest.MonkeyPatch.context() as path:
    path.setattr(sys, "path", [str(RESULTS), *sys.path])
    import land  # type: ignore[import-not-found]
    import pages  # type: ignore[import-not-found]
    import pool as pool_pages  # type: ignore[import-not-found]

LANDED = pages.every_experiment()
WORDS = "|".join(sorted((re.escape(word) for word in (*pages.WORDS, "not run")), key=len, reverse=True))
JUDGED = ("supported", "contradicted", "negligible", "inconclusive")


def verdicts_of(folder: Path) -> dict[str, str]:
    table = pd.read_csv(folder / "verdicts.csv", keep_default_na=False)
    return dict(table[table["part_of"] == ""][["id", "verdict"]].itertuples(index=False))


def test_every_page_is_what_land_writes() -> None:
    assert len(LANDED) > 40
    for path, text in land.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python docs/results/land.py"
    written = {
        *land.pages(),
        *RESULTS.glob("adjudication/*/batch.md"),
        *RESULTS.glob("adjudication/*/league.md"),
    }
    assert set(RESULTS.rglob("*.md")) - written == {RESULTS / "preface.md"}


def test_the_league_of_a_pool_is_what_its_landed_runs_give(tmp_path: Path) -> None:
    (one,) = [one for one in LANDED if one.folder.name == "pool-smoke"]
    land.write_pool(tmp_path, one.runs, one.said)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (one.folder / path.name).read_bytes(), path.name


def test_what_transfers_is_said_of_signs_that_are_sure() -> None:
    def pool(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=["measure", "tau", "tau_low", "tau_high"]).assign(target="gap")

    first = pool(
        ("a", 0.5, 0.2, 0.8), ("b", 0.5, 0.2, 0.8), ("c", 0.5, 0.2, 0.8), ("only here", 0.1, 0.0, 0.2)
    )
    second = pool(("a", 0.3, 0.1, 0.5), ("b", -0.3, -0.5, -0.1), ("c", 0.1, -0.1, 0.3))
    said = {
        line.split(" | ")[0]: line.split(" | ")[-1] for line in pool_pages.transfer({"p": first, "q": second})
    }
    assert said["| a"] == "same sign, sure in each |"
    assert said["| b"] == "**changes sign** |"
    assert said["| c"] == "not sure in each |"
    assert "| only here" not in said


def test_every_verdict_named_on_a_page_is_that_of_the_landed_tables() -> None:
    """In bold on an experiment's page, in a row of a table, in a text behind a link: always the landed one."""
    tables = {one.folder: verdicts_of(one.folder) for one in LANDED}
    named = 0
    for one in LANDED:
        assert {row["id"]: row["verdict"] for row in one.verdicts} == tables[one.folder]
        page = (one.folder / "README.md").read_text(encoding="utf-8")
        for claim, word in re.findall(rf"^\*\*(.+?): ({WORDS})[.( ]", page, flags=re.MULTILINE):
            assert tables[one.folder][claim] == word, one.folder
            named += 1
    rows = rf"^\| ([^|]+) \| .* \| ({WORDS})(?: \([^|]*\))? \| \w+ \| \[[^]]+\]\((\S+)/README.md\) \|$"
    links = rf"\[([^]:]+): ({WORDS})\]\((\S+)/README.md\)"
    for page in (*RESULTS.rglob("*.md"), ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for claim, word, link in [*re.findall(rows, text, flags=re.MULTILINE), *re.findall(links, text)]:
            assert tables[(page.parent / link).resolve()][claim] == word, f"{page}: {claim}"
            named += 1
    assert named > 250


def test_texts_written_by_hand_name_no_verdict_but_by_reference() -> None:
    for name in ("papers.toml", "preface.md"):
        text = re.sub(r"\{[^{}]+\}", "", (RESULTS / name).read_text(encoding="utf-8"))
        assert not re.search(
            r"\b[PJKHC]\d+\b[^.]{0,60}\b(supported|contradicted|negligible|inconclusive)\b", text
        )
    with pytest.raises(SystemExit, match="names 0 landed claims"):
        pages.resolved("{kaur2022/K99}", LANDED, "")
    with pytest.raises(SystemExit, match="names 2 landed claims"):
        pages.resolved("{kaur2022/K13}", LANDED, "")


def test_a_page_says_so_where_its_runs_are_not_those_of_todays_study_file() -> None:
    places = {(one.paper, one.scale) for one in LANDED}
    today = {s.key + scale: s.config.remark() for paper, scale in places for s in load_studies(paper, scale)}
    for one in LANDED:
        page = (one.folder / "README.md").read_text(encoding="utf-8")
        changed = today[one.said["key"] + one.scale].split() != one.said["note"].split()
        assert ("The study file has changed since these runs" in page) == changed, one.folder


def test_a_sentence_whose_verdict_has_changed_is_not_written() -> None:
    """Every sentence on what was learned names the verdict that it rests on, or shows whichever there is."""
    held, link = "{hammoud2023/H0 = supported}", "[H0: supported](../hammoud2023/H0-paper/README.md)"
    assert pages.resolved(f"It is: {held}.", LANDED, "../") == f"It is: {link}."
    with pytest.raises(SystemExit, match="the verdict is supported now; rewrite the sentence"):
        pages.resolved("{hammoud2023/H0 = contradicted}", LANDED, "")
    preface = (RESULTS / "preface.md").read_text(encoding="utf-8")
    learned = re.findall(
        r"^\d+\. .+?(?=^\d+\. |^## )", preface.partition("## What was learned")[2], re.M | re.S
    )
    assert len(learned) == 10
    for sentence in learned:
        assert re.search(rf"\{{(?:{'|'.join(pages.PAPERS)})/[^{{}}]+\}}", sentence), sentence
        assert re.search(r"\{figure [^{}]+\}", sentence), sentence


def test_a_figure_named_in_a_text_is_a_landed_one() -> None:
    found = pages.resolved("{figure hammoud2023/H1/fig1-test-loss}", LANDED, "")
    assert found == "[figure](hammoud2023/H1-paper/fig1-test-loss.svg)"
    for wrong in ("hammoud2023/H9/fig1-test-loss", "hammoud2023/H1/fig9", "hammoud2023/H1", "fig1"):
        with pytest.raises(SystemExit, match="names no landed figure"):
            pages.resolved(f"{{figure {wrong}}}", LANDED, "")


def test_the_first_page_tells_of_every_paper_what_differs_from_it() -> None:
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    for paper in pages.PAPERS[:5]:
        part = page.partition(f"\n## {paper}\n")[2].partition("\n## ")[0]
        assert re.search(r"^Of \d+ claims? ", part, re.M), paper
        assert "What differs from the paper's regime: " in part, paper


def test_no_verdict_is_on_untrained_networks_and_each_is_what_the_landed_table_gives() -> None:
    """Judged anew from the tables that are landed; where it needs curves or lines, the training is checked."""
    again = 0
    for one in LANDED:
        landed, requires = verdicts_of(one.folder), one.said["requires"]
        claims = read_claims(one.said["claims"])
        said = one.said["looks"]
        looks = Looks(tuple(said["planned"]), tuple(said["taken"])) if said else None
        judged = assess(claims, Evidence(one.runs), one.scale, requires=requires, looks=looks)
        table = pd.read_csv(one.folder / "verdicts.csv", keep_default_na=False).set_index(["id", "part_of"])
        anew = verdicts_table(judged).set_index(["id", "part_of"])
        for claim, verdict in zip(claims, judged, strict=True):
            place = f"{one.folder}: {claim.id}"
            if "not evaluable" in {verdict.verdict, *(part.verdict for part in verdict.parts)}:
                own = claim.requires if claim.requires is not None else requires
                rows = one.runs[holds(one.runs, claim.where)]
                assert landed[claim.id] not in JUDGED or not missed(rows, TRAINED if own is None else own), (
                    place
                )
            else:
                assert verdict.verdict == landed[claim.id], place
                for name in ("value", "low", "high", "partial", "partial_low", "partial_high"):
                    told = pd.to_numeric(table.loc[(claim.id, ""), name])
                    assert anew.loc[(claim.id, ""), name] == pytest.approx(
                        told, rel=1e-4, abs=1e-4, nan_ok=True
                    ), f"{place}: {name}"
                again += 1
    assert again > 80


def test_every_experiments_page_says_its_precondition_its_command_and_how_many_met_it() -> None:
    for one in LANDED:
        page = (one.folder / "README.md").read_text(encoding="utf-8")
        assert re.search(r"Precondition: .*(Of \d+ runs \d+ met it|none, since)", page), one.folder
        assert f"$ {one.said['command']} --store STORE" in page
        assert json.loads((one.folder / "experiment.json").read_text(encoding="utf-8"))["scale"] == one.scale
        for figure in one.said["figures"]:
            assert all((one.folder / chart["file"]).exists() for chart in figure["charts"])
