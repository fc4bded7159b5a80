"""Add seeds to studies look by look, until every claim is decided or the planned looks are used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.studies.file.library import Study
from sharpscope.studies.plan.expansion import make_plan
from sharpscope.studies.plan.joint import JointPlan
from sharpscope.studies.plan.plan import Plan
from sharpscope.studies.results.records import Record, change_looks, folder_of, read_records
from sharpscope.studies.results.tables import collect_all
from sharpscope.studies.run import OnEvent, run_plan
from sharpscope.sweep import Executor, Store, Summary

if TYPE_CHECKING:
    from sharpscope.analysis.claims import Looks

PLANNED = (3, 5, 8, 12)
"""Seeds at the planned looks where the user names none; `benchmarks/verdicts.py` simulates these four."""


@dataclass(frozen=True)
class Standing:
    """Where one study stands: ``looks`` taken and left, and the ids of the claims that are ``open``."""

    key: str
    scale: str
    looks: Looks
    open: tuple[str, ...]

    @property
    def words(self) -> str:
        """Say which looks were taken, what is open and which looks are left."""
        taken = ", ".join(map(str, self.looks.taken)) or "none"
        left = ", ".join(map(str, self.looks.left)) or "none"
        state = f"open: {', '.join(self.open)}" if self.open else "every claim is decided"
        if not self.looks.taken:
            state = "not looked at yet"
        return f"{self.key}: looks taken at {taken} seeds, left: {left}; {state}"


@dataclass(frozen=True)
class LooksTaken:
    """What `run_until_decided` did: where each study stands, all its runs in numbers, and why it ended."""

    progress: tuple[Standing, ...]
    summary: Summary
    why: str


def seeds_of(plan: Plan) -> int:
    """Return how many seeds a plan has."""
    return len({run.table["seed"] for run in plan.runs})


def why_no_seeds(study: Study) -> InputError | None:
    """Return the refusal to add seeds to a study, naming its file, or None where seeds can be added.

    None can be added to a study without claims, nor where a seed belongs to a setting.
    """
    if not study.config.claims:
        return study.source.refusal((), f"{study.key} has no claims to be decided; add one, or leave it out")
    for place, block in enumerate(study.config.grid):
        if "draws" in block:
            return study.source.refusal(
                ("grid", place, "draws"),
                "seeds cannot be added where settings are drawn, since each draw has a seed of its own; run it with "
                "the seeds that it has, or list the settings",
            )
        cases = block.get("cases", [])
        if any("seed" in case for case in cases if isinstance(case, dict)):
            return study.source.refusal(
                ("grid", place, "cases"),
                "seeds cannot be added where cases name them; make seed an axis of the grid",
            )
    return None


def with_seeds(study: Study, number: int) -> Study:
    """Return a study with so many seeds: the file's own in their order, then the smallest whole numbers left.

    Raises the `InputError` of `why_no_seeds`.
    """
    refusal = why_no_seeds(study)
    if refusal is not None:
        raise refusal
    blocks = []
    for block in study.config.grid or [{}]:
        own = block.get("seed", [study.config.run.get("seed", 0)])
        blocks.append({**block, "seed": _extended(own, number)})
    return replace(study, config=study.config.model_copy(update={"grid": blocks}))


def _extended(own: Sequence[int], number: int) -> list[int]:
    more = (seed for seed in count() if seed not in own)
    return [*own[:number], *(next(more) for _ in range(number - len(own)))]


def record_look(store: Store, plan: JointPlan) -> list[Standing]:
    """Record that the studies of a plan are looked at with the seeds they have now; return where each stands.

    The first look at a study is planned. One at another number of seeds later is not, unless `run_until_decided`
    planned it.
    """
    found = []
    for one in plan.plans:
        record = _record(store, one.study)
        if record is None:  # nothing of this study was carried out
            continue
        seeds, looks = seeds_of(one), record.get("looks") or {"planned": [seeds_of(one)], "taken": []}
        if not looks["taken"] or seeds > looks["taken"][-1]:
            looks = {**looks, "taken": [*looks["taken"], seeds]}
        found.append(_look(store, {**record, "looks": looks}))
    return found


def run_until_decided(
    studies: Sequence[Study],
    store: Store,
    planned: Sequence[int] | None,
    make_executor: Callable[[], Executor],
    *,
    budget: float | None = None,
    data_dir: str | None = None,
    device: str = "cpu",
    on_event: OnEvent | None = None,
    on_look: Callable[[Standing], None] = lambda progress: None,
) -> LooksTaken:
    """Run studies with as many seeds as the first planned look has; go on to the next for those with an open claim.

    A look is recorded in the store once all runs of its seeds are there, together with the claims that it leaves
    open, so a call that was killed goes on with the look that it was at. ``planned`` is None to go on with what the
    store has planned, or with `PLANNED`. With a ``budget`` in seconds no look begins that would end after it, as far
    as the last look tells. Of several studies those to which no seeds can be added (`why_no_seeds`) are run once as
    they are, before the others.

    Raises `InputError` where seeds can be added to none, and for looks other than those that were planned before.
    """
    refusals = [why_no_seeds(study) for study in studies]
    growing = [study for study, refusal in zip(studies, refusals, strict=True) if refusal is None]
    if not growing and refusals[0] is not None:
        raise refusals[0]
    began, last, summary, why = time.monotonic(), (0.0, 1), Summary(0, 0, 0, 0, False, 0.0), "decided"
    standing = {study.key: _standing(study, store, planned) for study in growing}

    def run(plan: JointPlan, looks: Mapping[str, dict[str, Any]] | None = None) -> Summary:
        nonlocal summary, why
        executor = make_executor()
        done = run_plan(
            plan, store, data_dir=data_dir, device=device, on_event=on_event, executor=executor, looks=looks
        )
        summary = _sum(summary, done)
        if done.interrupted or done.failed or done.blocked:
            why = "interrupted" if done.interrupted else "failed"
        else:
            for progress in record_look(store, plan):
                standing[progress.key] = progress
                on_look(progress)
        return done

    if len(growing) < len(studies):
        run(JointPlan(tuple(make_plan(study) for study in studies if study not in growing)))
    while why == "decided":
        due = {one.key: standing[one.key].looks.left[0] for one in growing if _goes_on(standing[one.key])}
        if not due:
            why = "no look left" if any(one.open for one in standing.values()) else "decided"
            break
        added = max(seeds - (standing[key].looks.taken or (0,))[-1] for key, seeds in due.items())
        if budget is not None and time.monotonic() - began + last[0] / last[1] * added > budget:
            why = "budget"
            break
        plans = [make_plan(with_seeds(study, due[study.key])) for study in growing if study.key in due]
        looks = {key: {"planned": list(standing[key].looks.planned)} for key in due}
        last = (run(JointPlan(tuple(plans)), looks).seconds, added)
    return LooksTaken(tuple(standing.values()), summary, why)


def _goes_on(one: Standing) -> bool:
    return bool(one.looks.left) and (bool(one.open) or not one.looks.taken)


def _standing(study: Study, store: Store, planned: Sequence[int] | None) -> Standing:
    """Return where the store left a study; a table of half a look's runs is not looked at."""
    from sharpscope.analysis.claims import Looks

    record = _record(store, study)
    looks = (record or {}).get("looks") or {"planned": [], "taken": [], "open": []}
    before, taken = tuple(looks["planned"]), tuple(looks["taken"])
    wanted = tuple(planned or before or PLANNED)
    single = (
        len(before) == 1 and taken == before and before[0] in wanted
    )  # a plain run is the first look of a plan
    if before and not single and wanted != before:
        raise InputError(
            f"looks at {study.key} were planned at {', '.join(map(str, before))} seeds, received "
            f"{', '.join(map(str, wanted))}; leave --looks out, or run it into another store"
        )
    open_now = looks.get("open", []) if taken else []
    return Standing(study.key, study.scale, Looks(wanted, taken), tuple(open_now))


def _look(store: Store, record: Record) -> Standing:
    """Judge a study at its present look, record what the look leaves open and return it."""
    from sharpscope.analysis.claims import Looks, open_claims

    looks = record["looks"]
    tables = collect_all(store)[folder_of(record)]
    verdicts = replace(tables, study={**tables.study, "looks": looks}).verdicts
    looks = {**looks, "open": open_claims(verdicts)}
    change_looks(store, record["key"], record["scale"], looks)
    return Standing(
        record["key"],
        record["scale"],
        Looks(tuple(looks["planned"]), tuple(looks["taken"])),
        tuple(looks["open"]),
    )


def _record(store: Store, study: Study) -> Record | None:
    if not (store.root / "study.json").exists():
        return None
    return next((r for r in read_records(store) if (r["key"], r["scale"]) == (study.key, study.scale)), None)


def _sum(one: Summary, other: Summary) -> Summary:
    numbers = {
        name: getattr(one, name) + getattr(other, name)
        for name in ("done", "skipped", "failed", "blocked", "seconds", "elsewhere", "failures")
    }
    return Summary(interrupted=other.interrupted, **numbers)
