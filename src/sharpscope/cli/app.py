"""The application: its commands, and the message and exit status of each error."""

from __future__ import annotations

from time import sleep
from typing import Annotated

import typer

from sharpscope import __version__
from sharpscope.cli import streams
from sharpscope.cli.audit import audit
from sharpscope.cli.catalogue import data, measures, models, studies
from sharpscope.cli.detach import attach
from sharpscope.cli.examine import examine
from sharpscope.cli.interpolate import interpolate
from sharpscope.cli.league import league
from sharpscope.cli.maintenance import gc, retry
from sharpscope.cli.measure import measure
from sharpscope.cli.plan import plan
from sharpscope.cli.report import export, report
from sharpscope.cli.run import demo, run
from sharpscope.cli.status import status
from sharpscope.cli.surface import surface
from sharpscope.cli.world import leave, rank
from sharpscope.errors import SharpscopeError

QUIET = 3.0
"""Seconds that a rank other than the first keeps an error to itself: where the first one has failed too, torchrun
ends the others in less, and the sentence is printed once."""

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
    *(demo, data, models, measures, studies, plan, run, status, attach, report, league, export, retry, gc),
    *(examine, measure, audit, interpolate, surface),
):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        streams.say(f"sharpscope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def status_of_call() -> int:
    """Run the command that the process was called with; print an error as one sentence; return the exit status."""
    streams.prepare()
    try:
        app()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except SharpscopeError as error:
        status = _refused(str(error))
    except BrokenPipeError:  # the reader of our output has gone; `finish` notices too
        status = 141
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        status = _refused(f"{where}{error.strerror or error}; check the file, its folder and the space left")
    except BaseException as error:
        # pydantic hands on a Ctrl-C that comes while it builds a class as an error of its own
        if not isinstance(error, KeyboardInterrupt) and "KeyboardInterrupt" not in str(error):
            raise
        streams.say("interrupted; give the same command again", error=True)
        status = 130
    leave(status)
    return streams.finish(status)


def _refused(sentence: str) -> int:
    if rank():
        sleep(QUIET)
    said = f"rank {rank()}: " if rank() else ""
    streams.say(f"{said}error: {' '.join(sentence.split())}", error=True)
    return 2
