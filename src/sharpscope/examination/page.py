"""An examination as one HTML page: static figures for light and dark ground, a surface to turn, no network."""

from __future__ import annotations

import html
import json
import math
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from sharpscope.examination.figures import density_figure, layers_figure, rises_figure
from sharpscope.examination.plan import AUDIT_SAMPLES, PARTS, PROBED
from sharpscope.examination.surface_figure import surface_figure
from sharpscope.landscape.surface import Surface
from sharpscope.report.numbers import number
from sharpscope.report.page import safe, script_hash, symbols
from sharpscope.report.theme import Ground, config

SHARED = 1e-3
"""Seconds below which a part has taken its numbers from the products of another."""

if TYPE_CHECKING:
    from sharpscope.examination.examination import Examination


def build_page(found: Examination) -> str:
    """Return the page; the same examination gives the same bytes."""
    from jinja2 import Environment, StrictUndefined

    from sharpscope import __version__

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["symbols"] = symbols
    folder = resources.files("sharpscope.examination")
    template = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    script = (
        "" if found.surface is None else folder.joinpath("surface.js").read_text(encoding="utf-8").strip()
    )
    css = resources.files("sharpscope.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        found=found,
        sentences=found.sentences,
        css=safe(css),
        figures=[
            (slug, title, caption, {ground: safe(_drawn(spec, ground, slug)) for ground in ("light", "dark")})
            for slug, title, caption, spec in _figures(found)
        ],
        numbers=[
            {key: _cell(value) for key, value in row.items()}
            for row in found.to_frame().astype(object).to_dict("records")
        ],
        account=_account(found),
        sampled=found.samples < found.population,
        audit=[] if found.audit is None else found.audit.table.to_dict("records"),
        number=number,
        script=safe(script),
        script_hash=safe(script_hash(script)),
        surface_data=safe("" if found.surface is None else _grid(found.surface)),
        version=__version__,
    )


def _account(found: Examination) -> list[dict[str, str]]:
    """Return for every part on how many samples it was measured and for how long, or why it was not."""
    rows = [
        {
            "part": "loss and gradient",
            "samples": str(found.population if found.whole else found.samples),
            "seconds": "",
            "why": "",
        }
    ]
    for part in PARTS:
        took, why = found.seconds.get(part), found.left_out.get(part, "")
        if took is None and not why:
            continue
        on = min(AUDIT_SAMPLES, found.samples) if part == "audit" else found.samples
        shared = part in PROBED and took is not None and took < SHARED
        rows.append(
            {
                "part": part.replace("_", " "),
                "samples": "" if took is None else str(on),
                "seconds": "" if took is None else "from the same products" if shared else f"{took:.1f}",
                "why": why,
            }
        )
    return rows


def in_frame(page: str) -> str:
    """Return a page as an element that a notebook can show without its styles reaching the notebook's own."""
    style = "width:100%;height:720px;border:0"
    return f'<iframe srcdoc="{html.escape(page)}" style="{style}" title="examination"></iframe>'


def _figures(found: Examination) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return (id, title, caption, specification) of every figure that there is."""
    figures: list[tuple[str, str, str, dict[str, Any]]] = []
    if found.density is not None:
        ends = None if found.eigenvalues is None else found.eigenvalues.values
        figures.append(
            (
                "density",
                "Spectral density of the Hessian",
                "Stochastic Lanczos quadrature; the band is ± 2 standard errors over probes. Ticks mark the "
                "eigenvalues that were computed on their own.",
                density_figure(found.density, ends),
            )
        )
    if found.by_layer is not None:
        figures.append(
            (
                "layers",
                "Curvature by layer",
                f"Trace of each layer's block of the Hessian from {found.by_layer.probes} probes, with 95 % "
                "intervals; beside it the share of the first eigenvector that lies in the layer.",
                layers_figure(found.by_layer, found.eigenvector_shares),
            )
        )
    if found.surface is not None:
        figures.append(
            (
                "surface",
                "The loss around the model",
                "Two random filter-normalised directions; 1 is a perturbation as large as the weights. "
                "The cross is the model, lines join points of equal loss.",
                surface_figure(found.surface),
            )
        )
    if found.average_direction:
        figures.append(
            (
                "average",
                "Rise in a random direction",
                "Mean over random directions of the given length, with its 95 % interval.",
                rises_figure(found.average_direction, "distance from the weights"),
            )
        )
    if found.worst_case:
        figures.append(
            (
                "worst",
                "Largest rise in a ball",
                "Adaptive ℓ∞ ball: each weight may change by the given share of itself. A lower bound.",
                rises_figure(found.worst_case, "largest relative change of a weight"),
            )
        )
    return figures


def _drawn(spec: dict[str, Any], ground: Ground, slug: str) -> str:
    """Return a figure as SVG whose ids are its own: the library counts them up over the life of the process."""
    import vl_convert

    text = str(vl_convert.vegalite_to_svg(json.dumps(spec, allow_nan=False), config=config(ground)))
    ids = dict.fromkeys(re.findall(r'id="([^"]+)"', text))
    for i, old in enumerate(ids):
        text = re.sub(rf"(?<=[\"#]){re.escape(old)}(?=[\")])", f"{slug}-{ground}-{i}", text)
    return text


def _grid(surface: Surface) -> str:
    rows = [[float(v) if math.isfinite(v) else None for v in row] for row in surface.losses]
    return json.dumps({"columns": len(surface.x), "rows": len(surface.y), "z": rows})


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return number(value, 4)
    return str(value)
