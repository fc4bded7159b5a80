"""``sharpscope run`` and ``sharpscope demo``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from sharpscope.cli.executor_options import ExecutorOptions
from sharpscope.cli.options import (
    DataDir,
    Device,
    Executor,
    Gpus,
    Json,
    Memory,
    Partition,
    RayAddress,
    Scale,
    Slurm,
    Store,
    StudyName,
    Threads,
    Time,
    Workers,
)
from sharpscope.cli.streams import say

_FEW = 10  # claims that are printed one by one


def run(
    study: StudyName,
    store: Store = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    threads: Threads = 1,
    device: Device = "cpu",
    executor: Executor = "local",
    gpus: Gpus = None,
    memory: Memory = None,
    ray_address: RayAddress = None,
    time: Time = None,
    partition: Partition = None,
    slurm: Slurm = None,
    scale: Scale = None,
    report: Annotated[bool, typer.Option(help="Write the report when done.")] = True,
    json: Json = False,
) -> None:
    """Run a study: train its grid, take its measures, write its report.

    STUDY is a study file, a shipped study, a paper's name, one of its experiments (kaur2022/fig1), or all for
    every experiment of every paper; 'sharpscope studies' lists them.

    Interrupt it with Ctrl-C at any time: running trainings save themselves, and the same command goes on
    from there. What the store already holds is not done again, so adding seeds, rates or measures to the
    study costs only what is new.
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
    )
    _run_and_print(study, store, data_dir, options, report, json, scale)


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
) -> None:
    """Run a study and print its summary and verdicts."""
    from sharpscope.cli.live import Live
    from sharpscope.cli.printing import duration, print_json
    from sharpscope.studies import (
        collect_all,
        load_studies,
        make_joint_plan,
        run_plan,
        validate_plan,
        write_reports,
    )
    from sharpscope.sweep import Store

    plan = make_joint_plan(load_studies(name, scale), _show_planning)
    target = Store(store or Path("results") / plan.folder)
    validate_plan(plan, data_dir)
    executor = options.make(target.root)
    with Live() as live:
        summary = run_plan(
            plan, target, data_dir=data_dir, device=options.device, executor=executor, on_event=live
        )
    page, verdicts = None, []
    if report and not summary.interrupted:
        tables = collect_all(target)
        page = write_reports(tables, target.root / "report")
        verdicts = [(one.study["key"], verdict) for one in tables.values() for verdict in one.verdicts]
    if json:
        print_json(
            {
                "study": plan.folder,
                "store": str(target.root),
                "report": None if page is None else str(page),
                **{
                    k: getattr(summary, k)
                    for k in ("done", "elsewhere", "skipped", "failed", "blocked", "interrupted", "seconds")
                },
                "verdicts": [
                    {"study": key, "id": v.id, "verdict": v.verdict, "reason": v.reason}
                    for key, v in verdicts
                ],
                "failures": [{"task": f.id, "label": f.label, "reason": f.reason} for f in summary.failures],
            }
        )
    else:
        say(
            f"{len(plan.runs)} runs, {len(plan.measures)} measures: {summary.done} done in "
            f"{duration(summary.seconds)}"
            + (f" ({summary.elsewhere} of them by others that share the store)" if summary.elsewhere else "")
            + f", {summary.skipped} were there already"
            + (f", {summary.failed} failed, {summary.blocked} blocked by them" if summary.failed else "")
        )
        for failure in summary.failures[:10]:
            say(f"  failed: {failure.label}: {failure.reason}")
        if len(verdicts) > _FEW:
            counts = Counter(verdict.verdict for _, verdict in verdicts)
            say(f"{len(verdicts)} claims: {', '.join(f'{n} {word}' for word, n in counts.most_common())}")
        else:
            for _, verdict in verdicts:
                say(f"  {verdict.id}: {verdict.verdict}. {verdict.reason}")
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
    from sharpscope.cli.target import show_progress

    if total >= 10_000:
        show_progress(done, total, "runs planned")
