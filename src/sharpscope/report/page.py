"""The pages: a study's report and the index of several, each one HTML file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, get_args

import numpy as np
import pandas as pd

from sharpscope.analysis import finished, warnings
from sharpscope.analysis.claims.verdict import (
    Verdict,
    Word,
    false_discovery_sentence,
    with_false_discovery,
)
from sharpscope.analysis.tables import UNFINISHED
from sharpscope.report.axes import label
from sharpscope.report.charts import MeasureInfo, StudyCharts, chart_study
from sharpscope.report.findings import findings, verdict_rows, verdicts_summary
from sharpscope.report.numbers import coefficient, counted, interval, listed, name_of, number, probability
from sharpscope.report.outcomes import pick
from sharpscope.report.paper_figures import PaperFigure, charts_of, draw_figures
from sharpscope.report.run_table import run_table
from sharpscope.report.theme import config

_SHOWN_APART = ("study", "command", "citation", "version")
"""Keys of the metadata that have a place of their own on the page."""


def build_page(
    title: str,
    description: str,
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    history: pd.DataFrame,
    axes: Sequence[str],
    metadata: Mapping[str, object] | None = None,
    measure_info: MeasureInfo | None = None,
    notes: Sequence[str] = (),
    *,
    verdicts: Sequence[Verdict] = (),
    figures: Sequence[PaperFigure] = (),
    configs: Mapping[str, Mapping[str, object]] | None = None,
    here: str = "",
    precondition: str = "",
    resamples: int = 2000,
    seed: int = 0,
) -> str:
    """Return the report on a study as one self-contained HTML page.

    ``runs``: one row per run (run_id, configuration, status, seed, the hyperparameters, losses at the end).
    ``measures``: one row per run and measure (run_id, measure, value, stderr, converged). ``history``: one row
    per run and epoch. ``axes``: the columns of ``runs`` that the study varied; those with a single value are
    reported as held fixed. ``metadata``: ``study`` (the study file's text), ``command``, ``citation`` and
    ``version`` have their own places, every other entry is listed. ``measure_info``: per measure label its
    ``title``, ``symbol``, ``definition`` and ``unit``. ``notes``: caveats of the data, printed at the top.
    ``verdicts``: what the runs say of the study's claims. ``figures``: the figures in the paper's own axes.
    ``configs``: each run's configuration by its id, to copy. ``here``: what these runs do otherwise than the
    description says; at a ``scale`` of the metadata below the paper's the two are told apart. ``precondition``: what
    the claims require of the runs, and how many met it.

    The same arguments give the same bytes. Every text may hold anything at all: it is escaped. Raises
    `InputError` where a table lacks a column it needs.
    """
    from jinja2 import Environment, StrictUndefined

    metadata, measure_info = metadata or {}, measure_info or {}
    study = chart_study(runs, measures, history, axes, measure_info, resamples=resamples, seed=seed)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"json": _json, "name": name_of, "symbols": symbols}
    library, script = _library(), _package_file("page.js")
    named = study.measures
    if len(named):
        named = named.assign(measure=named["measure"].map(dict(study.titles)))
    caveats = warnings(study.runs, named)
    drawn = draw_figures(figures)
    found = findings(study.correlations, study.targets, study.titles)
    return environment.from_string(_package_file("template.html.j2")).render(
        title=title,
        description=description,
        here=here,
        smaller=metadata.get("scale") in ("smoke", "laptop"),
        precondition=precondition,
        summary=verdicts_summary(verdicts),
        discoveries=false_discovery_sentence(verdicts),
        notes=list(notes),
        facts=_facts(study),
        varied=[(axis.name, axis.summary) for axis in study.axes],
        fixed=_fixed(study),
        caveats=caveats,
        verdicts=verdict_rows(verdicts),
        figures=drawn,
        copyable=bool(configs),
        findings=found,
        study=study,
        info=measure_info,
        correlation_rows=_correlation_rows(study),
        table=run_table(study.runs, study.measures, study.axes, study.titles),
        definitions=_definitions(study, measure_info),
        metadata=metadata,
        other_metadata=[(key, _shown(value)) for key, value in metadata.items() if key not in _SHOWN_APART],
        css=safe(_package_file("page.css")),
        library=safe(library),
        script=safe(script),
        hashes=" ".join(script_hash(text) for text in (library, script)),
        data={
            "charts": {chart.id: chart.for_page() for chart in [*study.charts, *charts_of(drawn)]},
            "runs": dict(study.columns.columns),
            "headings": dict(study.columns.headings),
            "configs": _configs(configs or {}),
            "themes": {"light": config("light"), "dark": config("dark")},
        },
    )


def _configs(configs: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Return the settings that all runs share, and each run's own, by top-level key."""
    listed = list(configs.values())
    shared = {
        key: value
        for key, value in (listed[0] if listed else {}).items()
        if all(key in one and one[key] == value for one in listed)
    }
    own = {run: {k: v for k, v in one.items() if k not in shared} for run, one in configs.items()}
    return {"shared": shared, "own": own}


def _facts(study: StudyCharts) -> list[tuple[str, str, str]]:
    """Return the headline's numbers: value, what it counts, a remark."""
    runs = study.runs
    done = int(finished(runs).sum())
    counts = runs["status"].astype(str).value_counts()
    lost = ", ".join(f"{counts[status]} {how}" for status, how in UNFINISHED.items() if status in counts)
    facts = [(number(len(runs)), "run" if len(runs) == 1 else "runs", lost)]
    if not len(runs):
        return facts
    settings = runs["configuration"].nunique()
    facts.append((number(settings), "configuration" if settings == 1 else "configurations", ""))
    if "seed" in runs.columns:
        facts.append((number(runs["seed"].nunique()), "seeds" if runs["seed"].nunique() > 1 else "seed", ""))
    facts.append((number(len(study.titles)), "measures" if len(study.titles) != 1 else "measure", ""))
    if "epochs" in runs.columns and done:
        epochs = pd.to_numeric(runs["epochs"])[finished(runs)]
        low, high = epochs.min(), epochs.max()
        facts.append((number(low) if low == high else f"{number(low)}–{number(high)}", "epochs", ""))
    return facts


def _fixed(study: StudyCharts) -> list[tuple[str, str]]:
    """Return what every run shared: name and value."""
    varied = {axis.column for axis in study.axes}
    found = []
    for column in ("data", "model", "parameters", "optimizer", "lr", "batch_size", "loss"):
        if column not in study.runs.columns or column in varied:
            continue
        values = [value for value in study.runs[column].drop_duplicates() if not pd.isna(value)]
        if values:
            shown = listed(
                [number(value) if column == "parameters" else label(value) for value in values[:6]]
            )
            found.append((name_of(column), shown + (", …" if len(values) > 6 else "")))
    return found


def _correlation_rows(study: StudyCharts) -> list[dict[str, str]]:
    """Return the table of correlations as text, each coefficient with its control in the same row."""
    methods = {"kendall": "Kendall τ_b", "spearman": "Spearman ρ", "pearson": "Pearson r"}
    found = study.correlations
    rows = []
    for row in found[found["given"] == ""].to_dict("records"):
        low, high = float(row["low"]), float(row["high"])
        control = pick(found, row["measure"], row["target"], "train_loss", row["method"])
        rows.append(
            {
                "measure": study.titles.get(row["measure"], row["measure"]),
                "target": name_of(row["target"]),
                "method": methods[row["method"]],
                "coefficient": coefficient(row["value"]),
                "interval": interval(low, high) or "–",
                "stands": "yes" if low > 0 or high < 0 else "",
                "control": "–" if control is None else coefficient(control["value"]),
                "control_interval": "" if control is None else interval(control["low"], control["high"]),
                "p_value": probability(row["p_value"]),
                "p_clustered": probability(row["p_clustered"]),
                "n": number(row["n"]),
                "clusters": number(row["clusters"]),
                "excluded": number(row["excluded"]),
                "note": row["note"],
            }
        )
    return rows


def _definitions(study: StudyCharts, info: MeasureInfo) -> list[dict[str, str]]:
    """Return what each measure is, and what it cost where the table tells."""
    found = []
    for name, short in study.titles.items():
        known = info.get(name, {})
        rows = study.measures[study.measures["measure"] == name]
        costs = []
        for column, noun in (
            ("gradients", "gradients"),
            ("products", "Hessian products"),
            ("losses", "loss evaluations"),
        ):
            if (
                column in rows.columns
                and np.nansum(costs_of_runs := pd.to_numeric(rows[column]).astype(float)) > 0
            ):
                costs.append(f"{number(float(np.nanmean(costs_of_runs)))} {noun}")
        protocols = list(dict.fromkeys(rows["protocol"].dropna())) if "protocol" in rows.columns else []
        found.append(
            {
                "label": name,
                "short": short,
                "title": known.get("title") or name,
                "definition": known.get("definition", ""),
                "unit": known.get("unit", ""),
                "cost": f"{listed(costs)} a run on average" if costs else "",
                "protocol": _indented(str(protocols[0])) if len(protocols) == 1 else "",
                "protocols": counted(len(protocols), "protocol") if len(protocols) > 1 else "",
            }
        )
    return found


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _indented(text: str) -> str:
    """Return JSON laid out for readers, any other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def symbols(text: object) -> Any:
    """Return a text escaped, with what follows an underscore set as a subscript: λ_max, τ_b, ‖H‖_F.

    Only after a symbol (one letter, a Greek letter or a norm's bar), so that names like ``batch_size`` and those of
    layers (``h.0.attn.c_proj``) stay.

    >>> str(symbols("λ_max in h.0.c_proj")), str(symbols("q_proj.weight"))
    ('λ<sub>max</sub> in h.0.c_proj', 'q_proj.weight')
    """
    from markupsafe import escape

    return _markup(re.sub(r"(?<![\w.])(\w|‖H‖)_(\w++)(?!\.\w)", r"\1<sub>\2</sub>", str(escape(text))))


def _json(value: Any) -> Any:
    """Return JSON that cannot end its script element nor open a comment in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def safe(text: str) -> Any:
    """Return a text of ours as it stands, once sure that it closes no element it stands in."""
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise AssertionError("a packaged script or style would end its own element")
    return _markup(text)


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # escaped, or checked, by both callers


def script_hash(script: str) -> str:
    """Return the source expression that lets exactly this script run (Content Security Policy 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _package_file(name: str) -> str:
    return resources.files("sharpscope.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script of about 900 kB (300 kB compressed).

    Vega-Embed carries the interpreter that lets expressions run without eval; the other two are not reachable
    on their own in this bundle.
    """
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).strip()


Listed = tuple[str, str, str, Sequence[Verdict]]
"""A study's key, its title, the address of its page, its verdicts."""


def build_index(title: str, studies: Sequence[Listed], version: str = "") -> str:
    """Return one HTML page with a table of all claims; the same arguments give the same bytes."""
    from jinja2 import Environment, StrictUndefined

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
        discoveries=false_discovery_sentence(
            with_false_discovery([verdict for _, _, _, verdicts in studies for verdict in verdicts])
        ),
        counts=[(word, counts[word]) for word in get_args(Word) if word in counts],
        studies=[(key, name, address, verdict_rows(verdicts)) for key, name, address, verdicts in studies],
        css=safe(folder.joinpath("page.css").read_text(encoding="utf-8")),
    )
