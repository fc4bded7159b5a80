"""The pages of docs/results as text, made of what is landed there; `land` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from pool import transfer

from sharpscope.analysis.claims.verdict import Word
from sharpscope.report.numbers import counted, listed, number
from sharpscope.studies import load_studies

HERE = Path(__file__).parent
PAPERS = ("patriarca2024", "jastrzebski2018", "kaur2022", "hammoud2023", "coldenhoff2022", "adjudication")
SCALES = ("paper", "laptop", "smoke")
WORDS: tuple[str, ...] = get_args(Word)
SAID = {
    "supported": "{n} hold here",
    "contradicted": "{n} do not hold here",
    "negligible": "{n} are about an effect too small to matter",
    "inconclusive": "{n} are open",
    "not evaluable": "{n} could not be judged",
    "not evaluable (untrained)": "{n} were not judged, since their networks did not train as required",
    "not run": "{n} were not run",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A landed experiment at one scale."""

    folder: Path

    @cached_property
    def said(self) -> Row:
        """What ``experiment.json`` holds."""
        content: Row = json.loads((self.folder / "experiment.json").read_text(encoding="utf-8"))
        return content

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row per run."""
        return pd.read_csv(self.folder / "results.csv")

    @property
    def paper(self) -> str:
        """The paper's name."""
        return self.folder.parent.name

    @property
    def name(self) -> str:
        """The experiment's name, as in the study file."""
        return self.folder.name.rpartition("-")[0]

    @property
    def scale(self) -> str:
        """The scale it was run at."""
        return str(self.said["scale"])

    @property
    def verdicts(self) -> list[Row]:
        """What was found of each claim, in words."""
        found: list[Row] = self.said["verdicts"]
        return found

    @property
    def hours(self) -> str:
        """The core-hours of training and measuring; a dash where they were not recorded."""
        seconds = self.said["core_seconds"]
        return "–" if seconds is None else number(seconds / 3600, 2)

    @property
    def asked_today(self) -> str:
        """What today's study file says of this experiment at this scale."""
        return remarks(self.paper, self.scale).get(self.said["key"], "")

    @property
    def has_league(self) -> bool:
        """Whether it is a pool at a scale that says something, with a league of measures."""
        return self.scale != "smoke" and (self.folder / "league.csv").exists()

    def link(self, start: str) -> str:
        """Return a link from the page of a paper ("") or from the table of all claims (the paper's name)."""
        return f"[{self.folder.name}]({start}{self.folder.name}/README.md)"

    def page(self) -> str:
        """Return the experiment's own page: verdicts first, then how they came about."""
        said = self.said
        lines = [f"# {said['key']}: {said['title']}", ""]
        if said["description"].strip():
            own = self.scale == "paper"
            whose = "The setting in full:" if self.paper == "adjudication" else "The paper's setting:"
            lines += ["" if own else whose, "", said["description"].strip(), ""][own:]
        if said["note"].strip():
            lines += ["Here:", "", said["note"].strip(), ""]
        if self.verdicts:
            planned = said["looks"]["planned"] if said["looks"] else []
            if not planned:
                lines += [f"No looks were planned; these are all runs, with {self._seeds()}.", ""]
            elif planned == [self.runs["seed"].nunique()]:
                lines += [f"One look was planned, at {self._seeds()}, and taken.", ""]
            else:
                at = listed([str(k) for k in planned])
                lines += [
                    f"Looks were planned at {at} seeds. Here are {self._seeds()}, whatever the text above says.",
                    "",
                ]
        if self.asked_today.split() != said["note"].split():
            lines += [
                f"The study file has changed since these runs, which wait to be repeated. Today: {self.asked_today}",
                "",
            ]
        lines += ["## Claims", ""] if self.verdicts else []
        for row in self.verdicts:
            lines += claim_lines(row)
        lines += ["## Runs", ""]
        lines += [f"- {said['precondition']}"] if said["precondition"] else []
        lines += [f"- {note}" for note in said["notes"]]
        lines += [f"- {self._done()}", ""]
        lines += ["```console", f"$ {said['command']} --store STORE", "$ sharpscope report STORE", "```", ""]
        looks, left = said["looks"], any(row["verdict"] == "inconclusive" for row in self.verdicts)
        if looks and left and len(looks["taken"]) < len(looks["planned"]):
            taken = counted(len(looks["taken"]), "look")
            lines += [
                f"Here is what {taken} gave. The command goes on from there; `--budget 1s` ends it after one look.",
                "",
            ]
        for figure in said["figures"]:
            lines += [f"## {figure['id']}{': ' + figure['title'] if figure['title'] else ''}", ""]
            lines += [f"Not drawn: {figure['missing']}.", ""] if figure["missing"] else []
            for chart in figure["charts"]:
                lines += [f"![{chart['description']}]({chart['file']})", ""]
        if (self.folder / "batch.md").exists():
            lines += ["[Does a larger batch flatten? By every measure](batch.md)", ""]
        if (self.folder / "league.md").exists():
            lines += ["[Which measure predicts what? The league of all measures](league.md)", ""]
        return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"

    def _seeds(self) -> str:
        return counted(int(self.runs["seed"].nunique()), "seed")

    def _done(self) -> str:
        runs = self.runs
        lost = int((runs["status"] == "diverged").sum())
        losses = f"{number(float(runs['train_loss'].min()))} to {number(float(runs['train_loss'].max()))}"
        cost = "" if self.hours == "–" else f"; {self.hours} core-hours"
        done = f"{counted(len(runs), 'run')} with {self._seeds()}"
        return f"{done}, {lost} of them diverged; training losses {losses}{cost}."


@cache
def remarks(paper: str, scale: str) -> dict[str, str]:
    """Return what a paper's study file says of each of its experiments at a scale, by the experiment's key."""
    return {study.key: study.config.remark() for study in load_studies(paper, scale)}


def claim_lines(row: Row) -> list[str]:
    """Return the paragraph of one verdict."""
    lines = [f"**{row['id']}: {worded(row)}.** {row['statement']}", ""]
    lines += [f"- Measured: {row['effect']}. {row['reason']}" if row["effect"] else f"- {row['reason']}"]
    lines += [f"- Part {part['id']}: {part['verdict']}. {part['effect']}" for part in row["parts"]]
    lines += [f"- {row['sureness']}"] if row["sureness"] else []
    lines += [f"- Training loss: {row['control']}"] if row["control"] else []
    lines += [f"- Confound: {line}" for line in row["confounds"]]
    lines += [f"- What would change it: {row['would_change']}"] if row["would_change"] else []
    return [*lines, ""]


def worded(row: Mapping[str, Any]) -> str:
    """Return a verdict's word with its caveat; what was not judged needs none."""
    judged = not row["verdict"].startswith("not")
    return f"{row['verdict']} ({row['caveat']})" if row["caveat"] and judged else str(row["verdict"])


def every_experiment() -> list[Experiment]:
    """Return what is landed, papers in their order, the largest scale of each experiment first."""
    found = [Experiment(path.parent) for path in HERE.glob("*/*/experiment.json")]
    return sorted(found, key=lambda one: (PAPERS.index(one.paper), one.name, SCALES.index(one.scale)))


def claims_of(paper: str, landed: Iterable[Experiment]) -> list[tuple[Row, Row | None, Experiment | None]]:
    """Return every claim of a paper in the study file's order, its verdict and experiment at the largest scale."""
    best: dict[str, Experiment] = {}
    for one in landed:
        if one.paper == paper:
            best.setdefault(one.name, one)
    found: list[tuple[Row, Row | None, Experiment | None]] = []
    for study in load_studies(paper, "paper"):
        at = best.get(study.key.partition("/")[2])
        rows = {} if at is None else {row["id"]: row for row in at.verdicts}
        found += [(claim, rows.get(claim["id"]), at) for claim in study.config.claims]
    return found


def table_of_claims(paper: str, landed: Sequence[Experiment], start: str) -> list[str]:
    """Return the table of a paper's claims, as lines of Markdown."""
    lines = [
        "| claim | statement | effect and interval | verdict | scale | experiment |",
        "|---|---|---|---|---|---|",
    ]
    for claim, row, one in claims_of(paper, landed):
        statement = claim["statement"]
        cells = [claim["id"], statement, "", "not run", "", ""]
        if row is not None and one is not None:
            cells = [claim["id"], row["statement"], row["effect"], worded(row), one.scale, one.link(start)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def paper_page(paper: str, landed: Sequence[Experiment], texts: Mapping[str, str]) -> str:
    """Return a paper's page: what holds here, what differs from its regime, experiments, claims, open ones."""
    (first, *_) = load_studies(paper, "paper")
    own = [one for one in landed if one.paper == paper]
    lines = [f"# {paper}: {first.paper}", ""]
    lines += [resolved(texts["told"].strip(), landed, "../"), ""] if texts.get("told") else []
    lines += ["## What holds here", "", *paragraph(paper, landed, texts, "../")]
    lines += table_of_claims(paper, landed, "")
    lines += ["", "## Experiments", ""]
    lines += ["| experiment | scale | runs | precondition, and who met it | core-hours | command |"]
    lines += ["|---|---|---|---|---|---|"]
    for one in own:
        asked = one.said["precondition"].removeprefix("Precondition: ")
        command = f"`{one.said['command']}`"
        lines.append(
            f"| {one.link('')} | {one.scale} | {len(one.runs)} | {asked} | {one.hours} | {command} |"
        )
    lines += ["", total_hours(own), ""]
    pools = {one.folder.name: pd.read_csv(one.folder / "league.csv") for one in own if one.has_league}
    lines += [*transfer(pools), ""] if len(pools) > 1 else []
    waiting = [
        (row, one) for _, row, one in claims_of(paper, landed) if row and row["verdict"] == "inconclusive"
    ]
    if waiting:
        lines += ["## What the open claims wait for", ""]
        for row, one in waiting:
            assert one is not None
            took = f" {row['sureness']}" if row["sureness"] else ""
            effect = f"{row['effect']}." if row["effect"] else ""
            lines.append(f"- {row['id']} ({one.link('')}): {effect}{took} {row['would_change']}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def paragraph(paper: str, landed: Sequence[Experiment], texts: Mapping[str, str], start: str) -> list[str]:
    """Return what holds of a paper here, what does not, at which scale, and what differs from its regime."""
    lines = [resolved(texts["found"].strip(), landed, start), ""] if texts.get("found") else []
    lines += [standing(paper, landed), ""]
    if texts.get("differs"):
        differs = resolved(texts["differs"].strip(), landed, start)
        lines += [f"What differs from the paper's regime: {differs}", ""]
    return lines


def total_hours(experiments: Sequence[Experiment]) -> str:
    """Return how many core-hours experiments took in all."""
    known = [one.said["core_seconds"] for one in experiments if one.said["core_seconds"] is not None]
    unknown = len(experiments) - len(known)
    total = f"In all {number(sum(known) / 3600, 3)} core-hours" if known else "Core-hours"
    rest = f" of {counted(unknown, 'experiment')} were not recorded" if unknown else ""
    return f"{total}; those{rest}." if known and rest else f"{total}{rest}."


def standing(paper: str, landed: Sequence[Experiment]) -> str:
    """Return in a paragraph which of a paper's claims hold here, do not, are open or were not judged."""
    groups: dict[str, list[str]] = {word: [] for word in SAID}
    claims = claims_of(paper, landed)
    ids = [claim["id"] for claim, _, _ in claims]
    for claim, row, one in claims:
        name = claim["id"]
        if one and ids.count(name) > 1 and one.name != name.split()[0]:
            name = f"{name} ({one.name})"
        groups["not run" if row is None else row["verdict"]].append(name)
    parts = []
    for word, names in groups.items():
        if names:
            text = SAID[word].format(n=len(names))
            text = re.sub(r"^1 (hold|are|were|do)\b", lambda m: f"1 {ONE[m[1]]}", text)
            parts.append(f"{text} ({', '.join(names)})")
    scales = listed([s for s in SCALES if any(one and one.scale == s and row for _, row, one in claims)])
    return f"Of {counted(len(claims), 'claim')} {listed(parts)}. Scales: {scales}."


ONE = {"hold": "holds", "are": "is", "were": "was", "do": "does"}


def resolved(text: str, landed: Sequence[Experiment], start: str) -> str:
    """Return a text with its references, which are in braces, put in.

    ``{paper/claim}`` or ``{paper/experiment/claim}`` becomes the verdict on the claim. ``{paper/claim = word}`` does
    too, and refuses every other verdict: a sentence that tells a finding names what it rests on, and no page can be
    written on which it is no longer true. ``{figure paper/experiment/file}`` becomes a link to that drawing.
    """

    def verdict(match: re.Match[str]) -> str:
        name, _, expected = match[1].partition(" = ")
        paper, *between, claim = name.split("/")
        found = [
            (row, one)
            for listed_claim, row, one in claims_of(paper, landed)
            if listed_claim["id"] == claim and row and one and (not between or one.name == between[0])
        ]
        if len(found) != 1:
            raise SystemExit(
                f"{match[0]} names {len(found)} landed claims; name the experiment too, or another"
            )
        ((row, one),) = found
        if expected and row["verdict"] != expected:
            raise SystemExit(
                f"a text rests on {match[0]}, and the verdict is {row['verdict']} now; rewrite the sentence"
            )
        return f"[{claim}: {row['verdict']}]({start}{paper}/{one.folder.name}/README.md)"

    def figure(match: re.Match[str]) -> str:
        paper, experiment, file = (*match[1].split("/"), "", "")[:3]
        at = next((one for one in landed if (one.paper, one.name) == (paper, experiment)), None)
        if at is None or not (at.folder / f"{file}.svg").exists():
            raise SystemExit(f"{match[0]} names no landed figure; correct the experiment or the file")
        return f"[figure]({start}{paper}/{at.folder.name}/{file}.svg)"

    text = re.sub(r"\{figure ([^{}]+)\}", figure, text)
    return re.sub(rf"\{{((?:{'|'.join(PAPERS)})/[^{{}}]+)\}}", verdict, text)


def overview(landed: Sequence[Experiment], preface: str, texts: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page of all claims."""
    tally = pd.DataFrame(0, index=[*PAPERS, "all"], columns=[*WORDS, "not run"])
    sections: list[str] = []
    for paper in PAPERS:
        for _, row, _ in claims_of(paper, landed):
            tally.loc[[paper, "all"], "not run" if row is None else row["verdict"]] += 1
        sections += [f"## {paper}", "", *paragraph(paper, landed, texts.get(paper, {}), "")]
        sections += [f"[More of {paper}]({paper}/README.md)", ""]
        sections += [*table_of_claims(paper, landed, f"{paper}/"), ""]
        links = [f"[overview]({paper}/README.md)"]
        for one in (one for one in landed if one.paper == paper):
            links.append(one.link(f"{paper}/"))
            of_pool = {"batch": "does a larger batch flatten?", "league": "which measure predicts what?"}
            links += [
                f"[{one.folder.name}: {asks}]({paper}/{one.folder.name}/{page}.md)"
                for page, asks in of_pool.items()
                if (one.folder / f"{page}.md").exists()
            ]
        sections += [f"Every page: {', '.join(links)}.", ""]
    tally = tally.loc[:, tally.loc["all"] > 0]
    lines = [resolved(preface.rstrip(), landed, ""), "", f"{total_hours(landed)}", ""]
    lines += [f"| | {' | '.join(tally.columns)} |", "|---" * (len(tally.columns) + 1) + "|"]
    lines += [f"| {paper} | {' | '.join(map(str, counts))} |" for paper, counts in tally.T.items()]
    return "\n".join([*lines, "", *sections]).rstrip() + "\n"


def rejudged_page(landed: Sequence[Experiment]) -> str:
    """Return the page on the tables of before, judged anew, with what stands now beside."""
    rows = pd.read_csv(HERE / "rejudged.csv", keep_default_na=False).to_dict("records")
    now = {one.folder.relative_to(HERE).as_posix(): one for one in landed}
    largest = [row for row in rows if row["largest"] == "yes"]
    lines = [
        "# The first landed tables, judged anew",
        "",
        "No run was repeated for this table: before are the verdicts of the former rules, after those of the",
        "present rules on the same runs (`python docs/results/rejudge.py` computes it). The last column is what",
        "stands on the page of the experiment now; it differs where the experiment has been run anew since.",
        "",
    ]
    for title, chosen in (("largest scale of each experiment", largest), ("every scale", rows)):
        words = [w for w in ("–", *WORDS) if any(w in (row["before"], row["after"]) for row in chosen)]
        heads = ["new claim" if word == "–" else word for word in words]
        lines += [f"| {title} | {' | '.join(heads)} |", "|---" * (len(words) + 1) + "|"]
        for when in ("before", "after"):
            counts = [sum(row[when] == word for row in chosen) for word in words]
            lines.append(f"| {when} | {' | '.join(map(str, counts))} |")
        lines.append("")
    for paper in PAPERS:
        lines += [f"## {paper}", "", "| claim | experiment | before | after | effect | why | now |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in (row for row in rows if row["paper"] == paper):
            one = now.get(f"{paper}/{row['experiment']}")
            stands = {r["id"]: r["verdict"] for r in one.verdicts} if one else {}
            word = stands.get(row["claim"], "not landed")
            cells = [row[key] for key in ("claim", "experiment", "before", "after", "effect", "why")]
            cells.append("as after" if word == row["after"] else word)
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
