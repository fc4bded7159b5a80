"""What a study can be expected to decide with a number of seeds, and what that costs, before it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.studies.file.library import OWN, Study
from sharpscope.studies.file.schema import SCALES
from sharpscope.studies.looks import seeds_of, with_seeds
from sharpscope.studies.plan.cost import Calibration, cost_of
from sharpscope.studies.plan.expansion import make_plan
from sharpscope.studies.plan.joint import JointPlan
from sharpscope.studies.plan.plan import Plan
from sharpscope.studies.results.tables import Tables, collect_all
from sharpscope.sweep import Store

if TYPE_CHECKING:
    import pandas as pd

    from sharpscope.analysis.claims import Looks


@dataclass(frozen=True)
class Forecast:
    """What is expected of one study.

    ``table`` has a row per claim and number of seeds, as `sharpscope.analysis.claims.prospects.prospects` makes it.
    ``runs`` and ``core_hours`` are by the number of seeds, all runs counted, those that are there already among them;
    an estimate of hours is None where the study's network would have to be imported to time it. ``basis`` says what
    the chances rest on, ``cost_basis`` what the hours do.
    """

    key: str
    scale: str
    table: pd.DataFrame
    runs: dict[int, int]
    core_hours: dict[int, float | None]
    basis: str
    cost_basis: str


def forecast(
    study: Study,
    seeds: Sequence[int] = (),
    *,
    store: Store | None = None,
    noise: Mapping[str, float] | None = None,
    effects: Mapping[str, float] | None = None,
    looks: Looks | None = None,
    calibration: Calibration | None = None,
) -> Forecast:
    """Return how likely each claim is to be decided with so many seeds, the study's own number by default.

    From the runs of a ``store``, at the study's scale or else at the largest that is there, or, without one, from an
    assumed ``noise`` (see `sharpscope.analysis.claims.prospects.prospects_from_noise`). With ``looks`` the seeds are
    those of the planned looks, and the level is theirs. Raises `InputError` for a study without claims, a store that
    does not hold it, or where there is neither store nor noise.
    """
    from sharpscope.analysis.claims import Evidence, read_claims
    from sharpscope.analysis.claims.prospects import prospects, prospects_from_noise

    if not study.config.claims:
        raise study.source.refusal((), f"{study.key} has no claims to be decided; add one, or leave it out")
    own = make_plan(study)
    asked = [*(looks.planned if looks else seeds)] or [seeds_of(own)]
    earlier = None if store is None else _earlier(store, study)
    if earlier is not None:
        evidence = Evidence(earlier.results(), earlier.history, earlier.views["landscapes"], earlier.tracks)
        table = prospects(read_claims(earlier.study["claims"]), evidence, asked, looks=looks)
        have = earlier.runs["seed"].nunique()
        scale = earlier.study["scale"]
        where = "" if scale == study.scale else f" at the scale {scale}, which may differ"
        basis = f"{len(earlier.runs)} earlier runs with {have} seed{'s' if have != 1 else ''}{where}"
    elif noise:
        claims = read_claims(study.config.claims)
        table = prospects_from_noise(claims, _settings(own), noise, effects or {}, asked, looks=looks)
        basis = "the noise and the effects that were assumed"
    else:
        raise InputError(
            f"there are no earlier runs of {study.key} and no noise is assumed; name a --store that holds "
            "some, or give --noise COLUMN=SD"
        )
    plans = {k: own if k == seeds_of(own) else make_plan(with_seeds(study, k)) for k in asked}
    runs = {k: len(plan.runs) for k, plan in plans.items()}
    if (
        earlier is not None
        and earlier.study["scale"] == study.scale
        and earlier.core_seconds
        and len(earlier.runs)
    ):
        each = earlier.core_seconds / len(earlier.runs) / 3600
        hours: dict[int, float | None] = {k: each * count for k, count in runs.items()}
        return Forecast(study.key, study.scale, table, runs, hours, basis, "what the earlier runs took")
    if any(":" in run.config.model.name for run in own.runs):
        return Forecast(study.key, study.scale, table, runs, dict.fromkeys(asked), basis, "")
    (fewest, *_) = sorted(plans.items())
    seconds = cost_of(JointPlan((fewest[1],)), calibration or Calibration()).seconds
    hours = {k: seconds / runs[fewest[0]] * count / 3600 for k, count in runs.items()}
    said = "one step of each network timed, for runs of full length; most stop sooner"
    return Forecast(study.key, study.scale, table, runs, hours, basis, said)


def _earlier(store: Store, study: Study) -> Tables | None:
    """Return the tables of a store's runs of a study: at its scale, or else at the largest there is."""
    order = [study.scale, *reversed(SCALES), OWN]
    found = [one for one in collect_all(store).values() if one.study["key"] == study.key and len(one.runs)]
    return min(found, key=lambda one: order.index(one.study["scale"]), default=None)


def _settings(plan: Plan) -> pd.DataFrame:
    """Return the runs' settings as the table of runs will have them; a full batch is the training set's size."""
    import pandas as pd

    from sharpscope.studies.plan.cost import samples_of

    rows: list[dict[str, Any]] = []
    for run in plan.runs:
        row = dict(run.row)
        if row["batch_size"] == "full":
            row["batch_size"] = samples_of(run.config.data)[0]
        rows.append(row)
    return pd.DataFrame(rows)
