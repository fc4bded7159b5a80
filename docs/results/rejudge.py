"""Judge the first landed tables anew by the present rules, without a run, and say what changed and why.

    python docs/results/rejudge.py

Before: the ``verdicts.csv`` of the revision `BEFORE`, the last one that the former rules wrote. After: the
``results.csv`` of the same revision, judged by the present rules with the study files of the revision `STUDIES`,
whose grids are those of the runs. The outcome goes to ``rejudged.csv``; experiments that have not been run anew since
get it as their verdicts. Claims on learning curves, tracks and interpolations are not in ``results.csv``: of these it
is only asked whether their networks trained, and where they did, the claim waits for its runs to be repeated.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tempfile
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pandas as pd
from land import pages, write_experiment, write_tables
from pages import HERE, PAPERS, SCALES
from pool import does_a_larger_batch_flatten

from sharpscope.analysis.claims import Evidence, Verdict, assess, read_claims
from sharpscope.analysis.claims.conditions import holds
from sharpscope.analysis.claims.kinds import Conjunction
from sharpscope.analysis.claims.requirements import TRAINED, missed, precondition
from sharpscope.errors import InputError
from sharpscope.report.findings import effect_words
from sharpscope.report.numbers import probability
from sharpscope.studies import Study, load_studies, make_plan

BEFORE = "9785446"
STUDIES = "65c799a"
LATER_CLAIMS = (("adjudication/pool", "laptop"),)
"""Experiments that are judged by the claims of today's study file: same grid and columns, claims came later."""

CONSTANT_LOSS = {"cora": log(7), "abalone": 10.479, "abalone_as_coded": 1.0}
"""Where a table lacks it: the cross-entropy of equal chances, ten classes unless named; the variance of the rings of
Abalone's training rows, 1 where the targets are standardised."""

NOT_KEPT = (
    "The learning curves, tracks or lines of these runs were not landed; the claim waits for a new run."
)


def main() -> None:
    """Write ``rejudged.csv``, the folders that were not run anew since, and all pages."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for paper in PAPERS:
            text = shown(STUDIES, f"src/sharpscope/studies/{paper}.toml")
            file = Path(folder) / f"{paper}.toml"
            file.write_text(text, encoding="utf-8")
            seen: set[str] = set()
            for scale in SCALES:
                today = {study.key: study for study in load_studies(paper, scale)}
                for study in load_studies(file, scale):
                    if (study.key, scale) in LATER_CLAIMS:
                        claims = {"claims": today[study.key].config.claims}
                        study = replace(study, config=study.config.model_copy(update=claims))
                    name = study.key.partition("/")[2]
                    if listed(BEFORE, f"docs/results/{paper}/{name}-{scale}/"):
                        rows += of_experiment(
                            study, HERE / paper / f"{name}-{scale}", largest=name not in seen
                        )
                        seen.add(name)
    order = {paper: number for number, paper in enumerate(PAPERS)}
    rows.sort(key=lambda row: (order[row["paper"]], row["largest"] == "no"))
    pd.DataFrame(rows).to_csv(HERE / "rejudged.csv", index=False)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def of_experiment(study: Study, folder: Path, largest: bool) -> list[dict[str, str]]:
    """Return a row per claim of an experiment, and put the verdicts into its folder unless it was run anew."""
    place = folder.relative_to(HERE.parents[1]).as_posix()
    results = with_constant_loss(pd.read_csv(io.StringIO(shown(BEFORE, f"{place}/results.csv"))), study.key)
    old = pd.read_csv(io.StringIO(shown(BEFORE, f"{place}/verdicts.csv"))).set_index("id")
    claims = read_claims(study.config.claims)
    requires = study.config.requires
    judged = assess(claims, Evidence(results), study.scale, requires=requires)
    verdicts = [
        of_what_is_missing(claim, verdict, results, requires)
        for claim, verdict in zip(claims, judged, strict=True)
    ]
    record = make_plan(study).record() | {"origin": study.key.partition("/")[0], "looks": None}
    landed = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    same = set(pd.read_csv(folder / "results.csv")["run_id"]) == set(results["run_id"])
    if same and landed["core_seconds"] is None:  # the first tables do not say what they cost
        page = shown(BEFORE, f"{place}/README.md")
        write_tables(folder, results, verdicts)
        own = [claim.get("requires", requires) for claim in study.config.claims]
        write_experiment(
            folder,
            record,
            verdicts,
            notes=re.findall(
                r"^- ((?!Measured|Training loss|Confound|What would|\d+ of \d+ runs).*)$", page, re.M
            ),
            precondition=precondition(results, requires if any(one != {} for one in own) else {}),
            figures=figures_of(page),
            core_seconds=None,
        )
        if (folder / "batch.md").exists():
            (folder / "batch.md").write_text(does_a_larger_batch_flatten(results, record), encoding="utf-8")
    found = []
    for verdict in verdicts:
        before = str(old.loc[verdict.id, "verdict"]) if verdict.id in old.index else "–"
        found.append(
            {
                "paper": folder.parent.name,
                "claim": verdict.id,
                "experiment": folder.name,
                "largest": "yes" if largest else "no",
                "before": before,
                "after": str(verdict.verdict),
                "effect": shown_effect(verdict),
                "why": reason(before, verdict),
            }
        )
    return found


def of_what_is_missing(claim: Any, verdict: Verdict, results: pd.DataFrame, requires: Any) -> Verdict:
    """Return a verdict; one for which curves or lines are missing says whether the networks trained at least."""
    if verdict.verdict != "not evaluable":
        return verdict
    own = claim.requires if claim.requires is not None else requires
    wheres = [claim.where]
    if isinstance(claim, Conjunction):
        wheres = [{**claim.where, **part.where} for part in claim.claims]
    try:
        short = next(
            (text for where in wheres if (text := missed(results[holds(results, where)], own or TRAINED))), ""
        )
    except InputError:
        short = ""
    if short:
        return replace(
            verdict,
            verdict="not evaluable (untrained)",
            reason=short,
            would_change="Runs that trained would: for longer, at other rates, or on fewer images.",
        )
    return replace(verdict, reason=NOT_KEPT, would_change="A new run would.")


def figures_of(page: str) -> list[dict[str, Any]]:
    """Return the figures of a page that was landed before, whose files stay."""
    figures = []
    for heading, body in re.findall(r"^## (?!Claims)(.+?)\n(.*?)(?=^## |\Z)", page, re.M | re.S):
        name, _, title = heading.partition(": ")
        missing = re.search(r"^Not drawn: (.*)\.$", body, re.M)
        charts = [{"file": f, "description": d} for d, f in re.findall(r"!\[(.*?)\]\((\S+\.svg)\)", body)]
        figures.append(
            {"id": name, "title": title, "missing": missing[1] if missing else "", "charts": charts}
        )
    return figures


def reason(before: str, verdict: Verdict) -> str:
    """Return why a verdict changed, or that it did not."""
    parts = ", ".join(f"{part.id} {part.verdict}" for part in verdict.parts)
    parts = f" Parts: {parts}." if parts else ""
    if verdict.verdict == before:
        return f"Unchanged. {verdict.reason}{parts}"
    return f"{'New. ' if before == '–' else ''}{verdict.reason}{parts}"


def with_constant_loss(results: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the table with the loss of the best constant answer in every row."""
    if "constant_loss" in results.columns and results["constant_loss"].notna().all():
        return results
    data = str(results["data"].iloc[0])
    coded = f"{data}_as_coded"
    name = coded if key.endswith("as_coded") and coded in CONSTANT_LOSS else data
    value = CONSTANT_LOSS.get(name, log(10))
    if "constant_loss" in results.columns:
        return results.assign(constant_loss=value)
    results.insert(list(results.columns).index("gap"), "constant_loss", value)
    return results


def shown_effect(verdict: Verdict) -> str:
    """Return the effect with its interval and p-value."""
    if verdict.effect is None:
        return ""
    p = f", p = {probability(verdict.p_value)}" if verdict.p_value == verdict.p_value else ""
    return effect_words(verdict.effect) + p.replace("= <", "< ")


def listed(revision: str, folder: str) -> list[str]:
    """Return the paths of a revision's files under a folder."""
    command = ["git", "-C", str(HERE), "ls-tree", "-r", "--name-only", "--full-tree", revision, folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def shown(revision: str, path: str) -> str:
    """Return a file of a revision."""
    command = ["git", "-C", str(HERE), "show", f"{revision}:{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
