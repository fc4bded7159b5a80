"""``sharpscope examine``."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpscope.cli.options import Json, TargetOptions, seconds_in, with_target
from sharpscope.cli.streams import say
from sharpscope.cli.world import Shard, join, rank

if TYPE_CHECKING:
    from sharpscope.cli.own_data import Target
    from sharpscope.cli.world import World
    from sharpscope.examination import ExaminationPlan


@with_target()
def examine(
    target: TargetOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.")
    ] = Path("examination.html"),
    without: Annotated[
        str | None, typer.Option("--without", metavar="PARTS", help="Comma-separated parts to leave out.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=1, help="Eigenvalues at each end.  [default: 3, or 1 with too short a --deadline]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random estimates and directions.")] = 0,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            help="How long it may take, such as 90s, 15m or 2h: what is worth most is measured first, on as many "
            "samples as there is time for.",
        ),
    ] = None,
    shard: Shard = False,
    json: Json = False,
) -> None:
    """Examine a model: curvature, sharpness at several radii, rescalings and a surface, on one page.

    The parts are eigenvalues, by_layer, trace, frobenius_norm, density, average_direction, worst_case, surface and
    audit. What each will take is said first. Ctrl-C ends the part under way, and the page has those that are done.
    The page needs no network.

    \b
    Examples:
      sharpscope examine --checkpoint results/quickstart/runs/ID/checkpoint.safetensors
      sharpscope examine mynet:build --checkpoint w.pt --data table.csv --target price -o mynet.html
      sharpscope examine hf:my-gpt2 --text book.txt --block 64
      sharpscope examine lenet5 --data fashion_mnist --samples 1000 --without surface,audit
      sharpscope examine resnet18 --checkpoint w.pt --data cifar10 --deadline 15m
    """
    from sharpscope.cli.printing import number, print_json, print_table
    from sharpscope.cli.target import show_progress
    from sharpscope.curvature.call_limits import INTERRUPTED
    from sharpscope.examination import examine as examine_objective
    from sharpscope.examination import make_plan

    skipped = [part.strip() for part in (without or "").split(",") if part.strip()]
    _check_output(output)
    limit = None if deadline is None else seconds_in(deadline, "--deadline")
    world = join(target.device, shard)
    loaded, samples = _load(target, seed, world)
    plan = make_plan(loaded.obj, without=skipped, deadline=limit, samples=samples, k=k, seed=seed)
    if rank() == 0:
        _tell(plan)
    found = examine_objective(
        loaded.obj,
        title=f"{loaded.model} on {loaded.data}",
        counted="token" if loaded.counted == "tokens" else "sample",
        seed=seed,
        progress=show_progress,
        on_interrupt="return",
        plan=plan,
    )
    interrupted = INTERRUPTED in found.left_out.values()
    if interrupted and sys.stderr.isatty():
        print(file=sys.stderr)  # below the line of progress
    if interrupted and not found.seconds:
        raise KeyboardInterrupt  # there is nothing to keep
    inputs = loaded.standardisation
    said = () if inputs == "tokens" else (f"{inputs[0].upper()}{inputs[1:]}.",)
    found = replace(found, notes=(*loaded.notes, *said, *found.notes))
    if rank() == 0:
        found.to_html(output)
    table = found.to_frame()
    if json:
        print_json(
            {
                "page": str(output),
                "fingerprint": found.fingerprint,
                "data": loaded.data,
                "notes": list(found.notes),
                "summary": [found.sentences.headline, *found.sentences.lines],
                "numbers": table.to_dict("records"),
            }
        )
        return
    for line in [str(found), *(f"note: {note}" for note in found.notes)]:
        say(line)
    say()
    sampled = found.samples < found.population
    print_table(
        ["measure", "radius", "value", "95 % low", "95 % high", "converged", *(["interval for"] * sampled)],
        [
            [
                r["measure"], number(r["radius"]), number(r["value"]), number(r["low"]), number(r["high"]),
                "yes" if r["converged"] else "NO", *([r["interval_for"]] * sampled),
            ]
            for r in table.to_dict("records")
        ],
        right=[1, 2, 3, 4],
    )  # fmt: skip
    say(f"\npage: {output}{', with what was measured before the interrupt' if interrupted else ''}")
    if interrupted:
        raise typer.Exit(130)


def _check_output(output: Path) -> None:
    """Refuse a page that could not be written after all the work; a device or pipe would be replaced by it."""
    from sharpscope.errors import InputError

    folder = output.absolute().parent
    if (output.exists() and not output.is_file()) or not folder.is_dir():
        raise InputError(
            f"--output takes a file in a folder that exists, received {str(output)!r}; name such a file"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"--output takes a file in a folder that can be written to, received {str(output)!r}; name another"
        )


def _load(target: TargetOptions, seed: int, world: World | None) -> tuple[Target, int | None]:
    """Load the target on all its data where samples of it can be drawn; return it and how many are to be drawn."""
    from sharpscope.cli.target import load_target
    from sharpscope.examination.plan import divisible

    if target.samples is not None and world is None:
        loaded = load_target(replace(target, samples=None), seed)
        if divisible(loaded.obj):
            return loaded, target.samples
    return load_target(target, seed, world), None


TOLD = 20.0
"""Seconds from which on an examination says beforehand what each part will take."""


def _tell(plan: ExaminationPlan) -> None:
    """Say on standard error what each part will take, where that is more than some seconds in all."""
    from sharpscope.cli.printing import duration

    if plan.seconds <= TOLD and not any(section.left_out for section in plan.sections):
        return
    lines = [
        f"this will take about {duration(plan.seconds)}{' for' if plan.samples < plan.population else ''}"
    ]
    if plan.samples < plan.population:
        lines[0] += f" {plan.samples} of {plan.population} samples"
    lines += [
        f"  {section.name:<18} {section.left_out or duration(section.seconds)}"
        for section in plan.sections
        if section.left_out or section.seconds
    ]
    if plan.deadline is None:
        lines.append("  --deadline TIME, --samples N or --without PARTS take less")
    with contextlib.suppress(OSError):  # a message is not worth the measurement
        print("\n".join(lines), file=sys.stderr, flush=True)
