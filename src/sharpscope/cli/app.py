"""The application: its commands, and the message and exit status of each error."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sharpscope import __version__
from sharpscope.cli.audit import audit
from sharpscope.cli.catalogue import data, models, studies
from sharpscope.cli.examine import examine
from sharpscope.cli.interpolate import interpolate
from sharpscope.cli.league import league
from sharpscope.cli.maintenance import gc, retry
from sharpscope.cli.measure import measure
from sharpscope.cli.report import export, report
from sharpscope.cli.run import demo, run
from sharpscope.cli.status import status
from sharpscope.cli.surface import surface
from sharpscope.errors import SharpscopeError

app = typer.Typer(
    name="sharpscope",
    help=(
        "An instrument for the loss landscape: train networks under controlled settings, measure how sharp the "
        "minimum is by every definition in use, and test whether sharpness predicts generalisation."
    ),
    epilog="Start with 'sharpscope demo'. Every command has its own --help.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    *(demo, data, models, studies, run, status, report, league, export, retry, gc),
    *(examine, measure, audit, interpolate, surface),
):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"sharpscope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; exit status 0 done, 1 some runs failed or are damaged, 2 bad input, 130 interrupted."""
    try:
        app()
    except SharpscopeError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `sharpscope data | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
