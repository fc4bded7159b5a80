"""Judge the landed tables anew by the present rules, without a run, and say what changed and why.

    python docs/results/rejudge.py [--before REVISION] > docs/results/rejudged.md

Before: the ``verdicts.csv`` of the revision, by default the last one that the former rules wrote. After: the
``results.csv`` of the same revision, judged now. Claims on learning curves, tracks and interpolations are not in
``results.csv``; of these it is only asked whether their networks trained.
"""

from __future__ import annotations

import argparse
import io
import subprocess
from collections import Counter
from math import log
from pathlib import Path
from typing import Any

import pandas as pd

from sharpscope.analysis.claims import Evidence, Verdict, assess, check_requires, read_claims
from sharpscope.analysis.claims.conditions import holds
from sharpscope.analysis.claims.kinds import Conjunction
from sharpscope.analysis.claims.requirements import TRAINED, missed
from sharpscope.errors import InputError
from sharpscope.report.numbers import number
from sharpscope.studies import load_studies

ROOT = Path(__file__).parents[2]
PAPERS = ("patriarca2024", "jastrzebski2018", "kaur2022", "hammoud2023", "coldenhoff2022", "adjudication")
BEFORE = "9785446"

REQUIRES: dict[str, dict[str, Any]] = {
    "patriarca2024": {"stop_reason": {"is": "plateau"}},
    "jastrzebski2018": {"train_accuracy": {"min": 0.95}},
    "kaur2022": {"train_accuracy": {"min": 0.95}},
    "hammoud2023": {"stop_reason": {"is": ["relative_change", "epochs"]}, **TRAINED},
    "coldenhoff2022": {"train_accuracy": {"min": 0.95}},
    "adjudication": {"train_accuracy": {"min": 0.95}},
}
"""What is required where the study says nothing: that networks trained, or stopped by the paper's own rule."""

CONSTANT_LOSS = {"cora": log(7), "abalone": 10.4, "abalone_as_coded": 1.0}
"""Where a table lacks it: the cross-entropy of equal chances, ten classes unless named; the variance of Abalone's
rings, 1 where the targets are standardised."""

DECIDED = ("supported", "contradicted", "negligible")


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default=BEFORE, metavar="REVISION")
    before = parser.parse_args().before
    rows = [row for paper in PAPERS for row in of_paper(paper, before)]
    words = {when: Counter(row[when] for row in rows) for when in ("before", "after")}
    names = list(dict.fromkeys([*words["before"], *words["after"]]))
    print("# The landed tables, judged anew\n")
    print(
        "No run was repeated: the tables are those that the former rules judged, the rules are the present ones."
    )
    print("`python docs/results/rejudge.py` writes this page.\n")
    print(f"| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for when, counts in words.items():
        print(f"| {when} | {' | '.join(str(counts[name]) for name in names)} |")
    for paper in PAPERS:
        print(
            f"\n## {paper}\n\n| claim | experiment | before | after | effect now | why |\n|---|---|---|---|---|---|"
        )
        for row in rows:
            if row["paper"] == paper:
                cells = [row[key] for key in ("claim", "experiment", "before", "after", "effect", "why")]
                print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


def of_paper(paper: str, revision: str) -> list[dict[str, str]]:
    """Return a row per claim of the largest scale of each of a paper's experiments."""
    folders = {Path(path).parent.name for path in listed(revision, f"docs/results/{paper}/")}
    rows, seen = [], set()
    for scale in ("paper", "laptop"):
        studies = {study.key.partition("/")[2] or "pool": study for study in load_studies(paper, scale)}
        for experiment, study in studies.items():
            folder = f"{experiment}-{scale}"
            if folder in folders and experiment not in seen:
                seen.add(experiment)
                rows += of_experiment(paper, experiment, study, f"docs/results/{paper}/{folder}", revision)
    return rows


def of_experiment(
    paper: str, experiment: str, study: Any, folder: str, revision: str
) -> list[dict[str, str]]:
    """Return a row per claim of an experiment."""
    results = pd.read_csv(io.StringIO(shown(revision, f"{folder}/results.csv")))
    results = with_constant_loss(results, experiment)
    old = pd.read_csv(io.StringIO(shown(revision, f"{folder}/verdicts.csv"))).set_index("id")
    requires = getattr(study.config, "requires", None) or REQUIRES[paper]
    claims = read_claims([claim for claim in study.config.claims if claim["id"] in old.index])
    verdicts = assess(claims, Evidence(results), study.scale, requires=requires)
    found = []
    for claim, verdict in zip(claims, verdicts, strict=True):
        before = str(old.loc[claim.id, "verdict"])
        after, why = str(verdict.verdict), reason(before, verdict)
        if verdict.verdict == "not evaluable" and before != "not evaluable":
            short = untrained(claim, results, requires)
            after = "not evaluable (untrained)" if short else before
            why = short or "not judged anew: its curves or lines are not in results.csv"
        found.append(
            {
                "paper": paper,
                "claim": claim.id,
                "experiment": Path(folder).name,
                "before": before,
                "after": after,
                "effect": shown_effect(verdict),
                "why": why,
            }
        )
    return found


def reason(before: str, verdict: Verdict) -> str:
    """Return why a verdict changed, or that it did not."""
    parts = ", ".join(f"{part.id} {part.verdict}" for part in verdict.parts)
    parts = f" Parts: {parts}." if parts else ""
    if verdict.verdict == before:
        return f"unchanged.{parts}" if before in DECIDED else f"unchanged: {verdict.reason}{parts}"
    return f"{verdict.reason}{parts}"


def untrained(claim: Any, results: pd.DataFrame, requires: dict[str, Any]) -> str:
    """Return why the networks of a claim that cannot be judged here did not train, "" where they did."""
    own = claim.requires if claim.requires is not None else check_requires(requires)
    wheres = [claim.where]
    if isinstance(claim, Conjunction):
        wheres = [{**claim.where, **part.where} for part in claim.claims]
    try:
        return next((text for where in wheres if (text := missed(results[holds(results, where)], own))), "")
    except InputError:
        return ""


def with_constant_loss(results: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """Return the table with the loss of the best constant answer in every row."""
    if "constant_loss" in results.columns and results["constant_loss"].notna().all():
        return results
    data = str(results["data"].iloc[0])
    coded = f"{data}_as_coded"
    name = coded if experiment.endswith("as_coded") and coded in CONSTANT_LOSS else data
    return results.assign(constant_loss=CONSTANT_LOSS.get(name, log(10)))


def shown_effect(verdict: Verdict) -> str:
    """Return the effect with its interval and p-value."""
    if verdict.effect is None:
        return ""
    effect = verdict.effect
    ends = f" [{number(effect.low)}, {number(effect.high)}]" if effect.low == effect.low else ""
    p = f", p = {verdict.p_value:.2g}" if verdict.p_value == verdict.p_value else ""
    return f"{effect.name} {number(effect.value)}{ends}{p}"


def listed(revision: str, folder: str) -> list[str]:
    """Return the paths of a revision's files under a folder."""
    command = ["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", revision, folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def shown(revision: str, path: str) -> str:
    """Return a file of a revision."""
    command = ["git", "-C", str(ROOT), "show", f"{revision}:{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
