"""``sharpscope run`` and ``sharpscope demo``."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sharpscope.cli.executor_options import ExecutorOptions
from sharpscope.cli.options import (
    DataDir,
    Device,
    Executor,
    Gpus,
    Json,
    Looks,
    Memory,
    Partition,
    Ranks,
    RayAddress,
    Scale,
    Slurm,
    Store,
    StudyName,
    Threads,
    Time,
    Workers,
    seconds_in,
)
from sharpscope.cli.streams import say
from sharpscope.errors import InputError

if TYPE_CHECKING:
    from sharpscope.studies.looks import Standing
    from sharpscope.studies.results.tables import Tables
    from sharpscope.sweep import Summary

_FEW = 10  # claims that are printed one by one


def run(
    study: StudyName,
    store: Store = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    threads: Threads = 1,
    ranks: Ranks = 1,
    device: Device = "cpu",
    executor: Executor = "local",
    gpus: Gpus = None,
    memory: Memory = None,
    ray_address: RayAddress = None,
    time: Time = None,
    partition: Partition = None,
    slurm: Slurm = None,
    scale: Scale = None,
    until: Annotated[
        Literal["decided"] | None,
        typer.Option("--until", help="Add seeds look by look until every claim is decided."),
    ] = None,
    looks: Looks = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="TIME", help="With --until: begin no look that would end later, as in 2h."
        ),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the report when done.")] = True,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on without this terminal; see 'sharpscope attach'.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a study: train its grid, take its measures, write its report.

    STUDY is a study file, a shipped study, a paper's name, one of its experiments (kaur2022/fig1), or all for
    every experiment of every paper; 'sharpscope studies' lists them.

    Interrupt it with Ctrl-C at any time: running trainings save themselves, and the same command goes on
    from there. What the store already holds is not done again, so adding seeds, rates or measures to the
    study costs only what is new.

    With --until decided the seeds of the first look are run, the claims judged, and the seeds of the next look
    added for the studies with an open claim. The intervals are wide enough for all planned looks together; seeds
    that are added without a plan are judged more carefully still.
    """
    options = ExecutorOptions(
        executor,
        workers,
        threads,
        device,
        gpus,
        memory,
        ray_address,
        time,
        partition,
        tuple(slurm or ()),
        ranks,
    )
    if until is None and (looks or budget):
        raise InputError("--looks and --budget belong to --until decided, received without it; add it")
    sequence = None if until is None else (looks, budget)
    if detach:
        _detach(study, store, data_dir, options, json, scale)
    else:
        _run_and_print(study, store, data_dir, options, report, json, scale, sequence)


def _detach(
    name: str,
    store: Path | None,
    data_dir: str | None,
    options: ExecutorOptions,
    json: bool,
    scale: str | None,
) -> None:
    """Check a study here, start the same command in a session of its own, and say how to follow and stop it."""
    import shlex
    import socket
    import sys

    from sharpscope.cli.detach import detach
    from sharpscope.cli.printing import print_json
    from sharpscope.studies import load_studies, make_joint_plan, validate_plan
    from sharpscope.sweep import Store

    plan = make_joint_plan(load_studies(name, scale), _show_planning)
    target = Store(store or Path("results") / plan.folder)
    validate_plan(plan, data_dir, ranks=options.ranks)
    process, log = detach(target.root, [word for word in sys.argv[1:] if word != "--detach"])
    if json:
        print_json(
            {"store": str(target.root), "process": process, "host": socket.gethostname(), "log": str(log)}
        )
        return
    say(f"detached as process {process} of {socket.gethostname()}")
    say(f"how far it is:  sharpscope status {shlex.quote(str(target.root))}")
    say(f"follow it:      sharpscope attach {shlex.quote(str(target.root))}")
    say(f"save and stop:  kill {process}")


def demo(store: Store = None, workers: Workers = None, json: Json = False) -> None:
    """Run the quickstart study on embedded data (a few minutes) and write its report.

    54 small networks on scikit-learn's handwritten digits, seven measures of each; needs no download. The
    same as 'sharpscope run quickstart'.
    """
    _run_and_print("quickstart", store, None, ExecutorOptions(workers=workers), True, json)


def _run_and_print(
    name: str,
    store: Path | None,
    data_dir: str | None,
    options: ExecutorOptions,
    report: bool,
    json: bool,
    scale: str | None = None,
    sequence: tuple[str | None, str | None] | None = None,
) -> None:
    """Run a study and print its summary and verdicts; ``sequence`` are the looks and the budget of ``--until``."""
    from sharpscope.cli.live import Live
    from sharpscope.studies import (
        collect_all,
        load_studies,
        make_joint_plan,
        record_look,
        run_plan,
        run_until_decided,
        validate_plan,
        write_reports,
    )
    from sharpscope.sweep import Store

    studies = load_studies(name, scale)
    plan = make_joint_plan(studies, _show_planning)
    if sequence is not None:
        from sharpscope.analysis.claims import Looks

        planned = None if sequence[0] is None else Looks.read(sequence[0])
        budget = None if sequence[1] is None else seconds_in(sequence[1], "--budget")
    target = Store(store or Path("results") / plan.folder)
    validate_plan(plan, data_dir, ranks=options.ranks)
    standing: Sequence[Standing] = ()
    why = ""
    with Live() as live:
        if sequence is None:
            executor = options.make(target.root)
            summary = run_plan(
                plan, target, data_dir=data_dir, device=options.device, executor=executor, on_event=live
            )
            if not (summary.interrupted or summary.failed or summary.blocked):
                standing = record_look(target, plan)
        else:
            found = run_until_decided(
                studies,
                target,
                planned,
                lambda: options.make(target.root),
                budget=budget,
                data_dir=data_dir,
                device=options.device,
                on_event=live,
                on_look=lambda progress: live.tell(progress.words),
            )
            summary, standing, why = found.summary, found.progress, found.why
    tables: Mapping[str, Tables] = {}
    page = None
    if report and not summary.interrupted:
        tables = collect_all(target)
        page = write_reports(tables, target.root / "report")
    if json:
        _print_document(plan.folder, target.root, page, summary, tables, standing, why)
    else:
        _print_summary(len(plan.runs), len(plan.measures), summary, tables, standing, why)
        say(f"store:  {target.root}")
        if page is not None:
            say(f"report: {page}")
        elif summary.interrupted:
            say("interrupted; the same command goes on from here")
    if summary.interrupted:
        raise typer.Exit(130)
    if summary.failed or summary.blocked:
        raise typer.Exit(1)


def _show_planning(done: int, total: int) -> None:
    """Show how far a large grid is planned; a small one takes no time that is worth a line."""
    if total >= 10_000 and sys.stderr.isatty():
        with contextlib.suppress(OSError):  # a message is not worth the plan
            end = "" if done < total else "\n"
            print(f"\r{done}/{total} runs planned", end=end, file=sys.stderr, flush=True)


_WHY = {
    "decided": "every claim is decided",
    "no look left": "no planned look is left",
    "budget": "the next look would end after the budget; the same command with a larger one goes on from here",
    "failed": "some runs failed; the same command goes on from here",
}


def _print_summary(
    runs: int,
    measures: int,
    summary: Summary,
    tables: Mapping[str, Tables],
    standing: Sequence[Standing],
    why: str,
) -> None:
    from sharpscope.cli.printing import duration

    say(
        (f"{runs} runs, {measures} measures: " if not why else "")
        + f"{summary.done} done in {duration(summary.seconds)}"
        + (f" ({summary.elsewhere} of them by others that share the store)" if summary.elsewhere else "")
        + f", {summary.skipped} were there already"
        + (f", {summary.failed} failed, {summary.blocked} blocked by them" if summary.failed else "")
    )
    for failure in summary.failures[:10]:
        say(f"  failed: {failure.label}: {failure.reason}")
    for one in standing:
        if why or one.looks.unplanned:
            say(f"  {one.words}" + (f" ({one.looks.words()})" if one.looks.unplanned else ""))
    if why in _WHY:
        say(f"  ended: {_WHY[why]}")
    verdicts = [verdict for one in tables.values() for verdict in one.verdicts]
    if len(verdicts) > _FEW:
        counts = Counter(verdict.verdict for verdict in verdicts)
        say(f"{len(verdicts)} claims: {', '.join(f'{n} {word}' for word, n in counts.most_common())}")
    else:
        for verdict in verdicts:
            caveat = f" ({verdict.caveat})" if verdict.caveat else ""
            say(f"  {verdict.id}: {verdict.verdict}{caveat}. {verdict.reason}")


def _print_document(
    folder: str,
    root: Path,
    page: Path | None,
    summary: Summary,
    tables: Mapping[str, Tables],
    standing: Sequence[Standing],
    why: str,
) -> None:
    from sharpscope.cli.printing import print_json

    document: dict[str, Any] = {
        "study": folder,
        "store": str(root),
        "report": None if page is None else str(page),
    }
    names = ("done", "elsewhere", "skipped", "failed", "blocked", "interrupted", "seconds")
    document |= {name: getattr(summary, name) for name in names}
    document["verdicts"] = [
        {
            "study": one.study["key"],
            "id": v.id,
            "verdict": v.verdict,
            "caveat": v.caveat,
            "p_value": v.p_value,
            "reason": v.reason,
        }
        for one in tables.values()
        for v in one.verdicts
    ]
    document["looks"] = [
        {
            "study": one.key,
            "planned": list(one.looks.planned),
            "taken": list(one.looks.taken),
            "left": list(one.looks.left),
            "unplanned": one.looks.unplanned,
            "open": list(one.open),
        }
        for one in standing
    ]
    if why:
        document["ended"] = why
    document["failures"] = [{"task": f.id, "label": f.label, "reason": f.reason} for f in summary.failures]
    print_json(document)
