"""List what can be run: papers, experiments, claims, and the number of runs of each at every scale."""

from __future__ import annotations

from typing import Any

from sharpscope.studies.file.library import OWN, Study, StudyFile, open_study, shipped
from sharpscope.studies.plan.cost import Calibration, cost_of
from sharpscope.studies.plan.joint import make_joint_plan


def every_file(cost: bool = True) -> list[dict[str, Any]]:
    """Return a table for each shipped study file: name, title, experiments, claims, and its extent at each scale.

    An extent counts ``runs`` and ``measures``; with ``cost`` it has the ``seconds`` that they are expected to take on
    all ``cores`` of this machine, except where a model of the user's own is trained.
    """
    timing = Calibration() if cost else None
    return [_of_file(open_study(name), timing) for name in shipped()]


def describe(target: str, cost: bool = True) -> list[dict[str, Any]]:
    """Return a table for each study that ``target`` names: its claims, figures, and its extent at each scale.

    ``target`` is a study file, PAPER or PAPER/EXPERIMENT. Raises `InputError` as `load_studies` does.
    """
    name, slash, experiment = target.rpartition("/")
    one = bool(slash) and name in shipped()
    file = open_study(name if one else target)
    timing = Calibration() if cost else None
    scale = file.scales[-1] if file.scales else None
    return [_of_study(study, file, timing) for study in file.studies(experiment if one else None, scale)]


def _of_file(file: StudyFile, timing: Calibration | None) -> dict[str, Any]:
    scales = file.scales or (None,)
    whole = file.studies(None, scales[-1])
    return {
        "name": file.name,
        "title": file.content.get("title", ""),
        "experiments": list(file.experiments),
        "claims": sum(len(one.config.claims) for one in whole),
        "scales": {scale or OWN: _extent(file.studies(None, scale), timing) for scale in scales},
    }


def _of_study(study: Study, file: StudyFile, timing: Calibration | None) -> dict[str, Any]:
    experiment = study.key.partition("/")[2] or None
    scales = file.scales or (None,)
    resolved = {scale: file.studies(experiment, scale) for scale in scales}
    return {
        "name": study.key,
        "title": study.config.title,
        "paper": f"{file.name}: {file.content.get('title', '')}",
        "description": study.config.description.strip(),
        "claims": [{k: claim.get(k) for k in ("id", "statement", "kind")} for claim in study.config.claims],
        "figures": [{"id": f.id, "title": f.title} for f in study.config.figures],
        "scales": {
            scale or OWN: {**_extent(found, timing), "note": found[0].config.remark()}
            for scale, found in resolved.items()
        },
    }


def _extent(studies: list[Study], timing: Calibration | None) -> dict[str, Any]:
    from sharpscope.sweep.executors.worker_environment import usable_cores

    plan = make_joint_plan(studies)
    extent: dict[str, Any] = {"runs": len(plan.runs), "measures": len(plan.measures)}
    # the network of a factory cannot be timed: a list must not import code that a study file names
    if timing is not None and not any(":" in run.config.model.name for run in plan.runs):
        cores = usable_cores()
        extent |= {"seconds": cost_of(plan, timing).seconds / cores, "cores": cores}
    return extent
