"""Run a plan into a store: first check that everything can be built, then do what the store does not hold yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.studies.file.library import Study
from sharpscope.studies.plan.joint import JointPlan
from sharpscope.studies.plan.plan import Plan
from sharpscope.studies.results.records import keep_records
from sharpscope.sweep import Executor, LocalExecutor, Store, Summary, run_tasks
from sharpscope.training import RunConfig, weight_seed

if TYPE_CHECKING:
    from sharpscope.data import Dataset

OnEvent = Callable[[Mapping[str, Any]], None]


def validate_plan(
    plan: Plan | JointPlan, data_dir: str | None = None, progress: Any = None, *, ranks: int = 1
) -> None:
    """Load every data set and build every model once, so that a plan that cannot work is refused before it runs.

    ``ranks`` is the number of processes that will train each model together. Downloads what is missing. Raises
    `DataError` or `InputError`.
    """
    for one in _joint(plan).plans:
        _validate(one, data_dir, progress, ranks)


def _validate(plan: Plan, data_dir: str | None, progress: Any, ranks: int) -> None:
    from sharpscope.data import load
    from sharpscope.models import build
    from sharpscope.training.data_parallel import refuse_unlike_alone
    from sharpscope.training.validation import validate

    study = plan.study
    datasets: dict[str, Any] = {}
    models: dict[str, Any] = {}
    seen: set[tuple[Any, ...]] = set()
    for run in plan.runs:
        if (alike := run.alike("seed")) in seen:
            continue
        seen.add(alike)
        config = run.config
        data, model = config.data.model_dump_json(), config.model.model_dump_json()
        asked = (data, model, *_what_validation_asks_for(config))
        if asked in seen:
            continue
        seen.add(asked)
        if data not in datasets:
            datasets = {data: load(config.data, data_dir=data_dir, progress=progress)}
            models = {}
            _check_samples(study, datasets[data])
        if model not in models:
            with _with_place(study, ("run", "model")):
                models = {model: build(config.model, datasets[data], weight_seed(config))}
                if ranks > 1:
                    refuse_unlike_alone(models[model])
        with _with_place(study, ("run",)):
            validate(config, datasets[data], models[model])


def _what_validation_asks_for(run: RunConfig) -> tuple[Any, ...]:
    """Return everything beside data and model on which the validation of a run depends."""
    own_optimizer = run.optimizer.model_dump_json() if ":" in run.optimizer.name else ""
    asked = (run.batch_size, run.loss, run.stop.train_accuracy, run.label_smoothing, own_optimizer)
    return (*asked, run.augmentation is None)


def _check_samples(study: Study, dataset: Dataset) -> None:
    """Refuse to measure on more samples than there are."""
    places: list[tuple[str | int, ...]] = [("objective", "samples")]
    asked = [study.config.objective.samples]
    for kind in ("tracks", "landscapes", "surfaces", "audits"):
        for i, entry in enumerate(getattr(study.config, kind)):
            places.append((kind, i, "samples"))
            asked.append(entry.samples)
    part = study.config.objective.part
    available = len(dataset.train if part == "train" else dataset.test)
    for place, samples in zip(places, asked, strict=True):
        if samples is not None and samples > available:
            raise study.source.refusal(
                place,
                f"{'.'.join(map(str, place))} must be at most the {available} {part} samples of {dataset.name}, "
                f"received {samples}; lower it or leave it out",
            )


_KEYS_BY_WORDS = {
    "batch_size": ("batch_size",),
    "train_accuracy": ("stop", "train_accuracy"),
    "the loss ": ("loss",),
}
"""Words of the sentence that refuses a run -> the key of the study file that the sentence is about."""


@contextmanager
def _with_place(study: Study, place: tuple[str | int, ...]) -> Iterator[None]:
    """Begin a refusal with the study file and the line of the key that it is about."""
    try:
        yield
    except InputError as error:
        key: tuple[str, ...] = next((key for words, key in _KEYS_BY_WORDS.items() if words in str(error)), ())
        places: list[tuple[str | int, ...]]
        places = [("grid", *key), ("grid", 0, *key)] if key and place == ("run",) else []
        there = [p for p in places if study.source.has(p)]
        raise study.source.refusal(there[0] if there else (*place, *key), str(error)) from error


def run_plan(
    plan: Plan | JointPlan,
    store: Store,
    *,
    data_dir: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    threads: int = 1,
    on_event: OnEvent | None = None,
    executor: Executor | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Summary:
    """Run one plan or several into a store; a second call does only what is missing.

    See `sharpscope.sweep.run_tasks`. The store keeps the records of the studies it has been given, each under its
    key and scale. ``looks`` are, by the key of a study, the looks at it that are planned.
    """
    joint = _joint(plan)
    tasks = joint.tasks(data_dir, device)
    if executor is None:
        executor = LocalExecutor(store.root, workers, threads)
    keep_records(store, joint.records(tasks), looks or {})
    return run_tasks(store, tasks, workers=workers, threads=threads, on_event=on_event, executor=executor)


def _joint(plan: Plan | JointPlan) -> JointPlan:
    if isinstance(plan, JointPlan):
        if not plan.plans:
            raise InputError("a plan needs at least one study, received none; name one")
        return plan
    return JointPlan((plan,))
