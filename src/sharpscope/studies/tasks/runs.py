"""The tasks of a run: train it, and take one measure of it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sharpscope.errors import NonFiniteError, PartOfDataError
from sharpscope.seeding import generator
from sharpscope.serialization import json_ready, readable_json
from sharpscope.studies.file.schema import ObjectiveConfig
from sharpscope.studies.tasks.run_measures import TrainedRun
from sharpscope.sweep import Interrupted, TaskContext
from sharpscope.training import RunConfig, weight_seed

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

    from sharpscope.data import Dataset
    from sharpscope.objective.measured_function import ChunkWatcher, MeasuredFunction
    from sharpscope.objective.objective import Objective
    from sharpscope.sweep import Rank
    from sharpscope.training import TrainingOutcome
    from sharpscope.training.history import Row

CHECKPOINT = "checkpoint.safetensors"
ENDED = {"diverged": "diverged", "stopped": "was stopped early by rule"}
"""What became of a run that did not finish, by its status."""


def train_run(payload: Mapping[str, Any], context: TaskContext) -> None:
    """Train a run; publish its configuration, outcome, history and final checkpoint."""
    config = RunConfig.model_validate(payload["run"])
    execution = payload["execution"]
    dataset, model = untrained(config, execution, context)
    with all_ranks(context, "sharpscope.studies.tasks.runs:train_rank", payload) as group:
        outcome = train_here(config, dataset, model, execution, context, group=group)
    publish_run(config, dataset, model, outcome, execution, context, context.output)


def train_rank(payload: Mapping[str, Any], rank: Rank) -> None:
    """Train a run as one of its other ranks, which publish nothing."""
    from sharpscope.training import train

    config, execution = RunConfig.model_validate(payload["run"]), payload["execution"]
    dataset, model = untrained(config, execution, rank)
    with meeting(rank.address, rank.rank, rank.ranks, execution) as group:
        train(
            config,
            dataset,
            model,
            workspace=rank.workspace,
            device=_device(execution, rank.rank),
            group=group,
        )


@contextmanager
def all_ranks(context: TaskContext, entry: str, payload: Mapping[str, Any]) -> Iterator[ProcessGroup | None]:
    """Let a task's other ranks call a function with this payload; give the group of all ranks, None where alone."""
    if context.ranks == 1:
        yield None
        return
    with (
        context.join(entry, payload) as address,
        meeting(address, 0, context.ranks, payload["execution"]) as group,
    ):
        yield group


@contextmanager
def meeting(address: str, rank: int, ranks: int, execution: Mapping[str, Any]) -> Iterator[ProcessGroup]:
    """Give the group of the ranks that meet at an address; a rank that dies ends it for all of them."""
    import torch

    cuda = str(execution["device"]).startswith("cuda")
    if cuda:
        torch.cuda.set_device(_device(execution, rank))
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=address,
        rank=rank,
        world_size=ranks,
        # one rank measures on the way, or loads data, while the others wait
        timeout=timedelta(days=1),
    )
    try:
        group = torch.distributed.group.WORLD
        assert group is not None
        yield group
    finally:
        torch.distributed.destroy_process_group()


def _device(execution: Mapping[str, Any], rank: int) -> str:
    """Return the device of a rank: each has one of the GPUs that its worker sees."""
    return f"cuda:{rank}" if rank and execution["device"] == "cuda" else str(execution["device"])


def untrained(
    config: RunConfig, execution: Mapping[str, Any], context: TaskContext | Rank
) -> tuple[Dataset, nn.Module]:
    """Return a run's data and its model as training begins."""
    import torch

    from sharpscope.models import build

    torch.set_num_threads(context.threads)
    dataset = _dataset(config, execution)
    return dataset, build(config.model, dataset, weight_seed(config))


def train_here(
    config: RunConfig,
    dataset: Dataset,
    model: nn.Module,
    execution: Mapping[str, Any],
    context: TaskContext,
    on_epoch: Callable[[Row], None] | None = None,
    group: ProcessGroup | None = None,
) -> TrainingOutcome:
    """Train a model in this task's workspace, telling of every epoch; raise `Interrupted` where asked to stop."""
    from sharpscope.training import train

    def tell(row: Row) -> None:
        if on_epoch is not None:
            on_epoch(row)
        context.report(
            {"fraction": row["epoch"] / config.stop.epochs, "epoch": row["epoch"], "loss": row["epoch_loss"]}
        )

    outcome = train(
        config,
        dataset,
        model,
        workspace=context.workspace,
        device=execution["device"],
        on_epoch=tell,
        should_stop=context.should_stop,
        group=group,
    )
    if outcome.status == "interrupted":
        raise Interrupted
    return outcome


def publish_run(
    config: RunConfig,
    dataset: Dataset,
    model: nn.Module,
    outcome: TrainingOutcome,
    execution: Mapping[str, Any],
    context: TaskContext,
    output: Path,
) -> None:
    """Write a trained run's configuration, outcome, history, environment and checkpoint into a folder."""
    import pandas as pd
    import torch

    from sharpscope.training import save_checkpoint
    from sharpscope.training.losses import constant_loss
    from sharpscope.training.validation import resolved_loss

    result = {
        "status": outcome.status,
        "stop_reason": outcome.stop_reason,
        "epochs": outcome.epochs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_samples": len(dataset.train),
        **outcome.final,
        "constant_loss": constant_loss(resolved_loss(config, dataset), dataset.train.targets),
        "data": {"standardisation": dataset.standardisation, "notes": list(dataset.notes)},
    }
    environment = {
        "torch": torch.__version__,
        "threads": context.threads,
        **({"ranks": context.ranks} if context.ranks > 1 else {}),
        "device": execution["device"],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "seconds": sum(row["seconds"] for row in outcome.history),
    }
    write_json(output / "config.json", config.model_dump(mode="json"))
    write_json(output / "outcome.json", result)
    write_json(output / "environment.json", environment)
    pd.DataFrame(outcome.history).to_parquet(output / "history.parquet", index=False)
    save_checkpoint(output / CHECKPOINT, model.cpu(), metadata={"run": config.model_dump(mode="json")})


def take_measure(payload: Mapping[str, Any], context: TaskContext) -> None:
    """Take one measure of a published run; one that did not finish yields a row without a value."""
    import torch

    torch.set_num_threads(context.threads)
    (run_folder,) = context.needs.values()
    outcome = json.loads((run_folder / "outcome.json").read_text())
    if outcome["status"] != "finished":
        found = _without_value(f"not taken: the run {ENDED[outcome['status']]}")
    else:
        found = _take_with_all_ranks(payload, run_folder, outcome["epochs"], context)
    seconds = found.pop("seconds", 0.0)
    write_json(context.output / "measure.json", {**json_ready(found), "run_id": run_folder.name})
    write_json(context.output / "timing.json", {"seconds": seconds})


def _take_with_all_ranks(
    payload: Mapping[str, Any], run_folder: Path, epochs: int, context: TaskContext
) -> dict[str, Any]:
    """Return a measure's row, taken by all ranks, or here alone where it needs all the data in one process."""
    asked = {**payload, "checkpoint": str(run_folder / CHECKPOINT), "epochs": epochs}
    if context.ranks > 1:
        with all_ranks(context, "sharpscope.studies.tasks.runs:measure_rank", asked) as group:
            found = _row(asked, group)
        if found is not None:
            return found
    return _row(asked, None, _StopsSoon(context.should_stop)) or {}


GRACE = 10.0
"""Seconds that a measure may still take when it is asked to stop: it has nothing to save, and most end by then."""


class _StopsSoon:
    """Watches the chunks of data that a measure evaluates, and ends it some seconds after it was asked to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._asked: float | None = None

    def __call__(self, evaluator: MeasuredFunction, done: int, of: int | None) -> None:
        if self._asked is None and self._should_stop():
            self._asked = time.monotonic()
        if self._asked is not None and time.monotonic() - self._asked >= GRACE:
            raise Interrupted


def measure_rank(payload: Mapping[str, Any], rank: Rank) -> None:
    """Take a measure as one of its other ranks, which publish nothing."""
    import torch

    torch.set_num_threads(rank.threads)
    execution = {**payload["execution"], "device": _device(payload["execution"], rank.rank)}
    with meeting(rank.address, rank.rank, rank.ranks, execution) as group:
        _row({**payload, "execution": execution}, group)


def _row(
    payload: Mapping[str, Any], group: ProcessGroup | None, watch: ChunkWatcher | None = None
) -> dict[str, Any] | None:
    """Return a measure's row, None where ranks are refused because each has a part of the data only."""
    from sharpscope.measures import row
    from sharpscope.studies.tasks.run_measures import take

    config, execution = RunConfig.model_validate(payload["run"]), payload["execution"]
    dataset = data_of(config, execution)
    try:
        obj = objective_of(config, Path(payload["checkpoint"]), payload["objective"], execution, group)
        obj.evaluator.watch = watch
        return row("", take(TrainedRun(config, payload["epochs"], dataset, obj), dict(payload["spec"])))
    except NonFiniteError as error:
        return _without_value(str(error))
    except PartOfDataError:
        return None


def _without_value(reason: str) -> dict[str, Any]:
    return {"value": None, "converged": False, "note": reason}


def objective_of(
    config: RunConfig,
    checkpoint: Path,
    objective: Mapping[str, Any],
    execution: Mapping[str, Any],
    group: ProcessGroup | None = None,
) -> Objective:
    """Return the objective that a study measures of a run: its trained model on the declared data."""
    import torch

    from sharpscope.models import build
    from sharpscope.training import load_checkpoint

    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    dataset = data_of(config, execution)
    model = build(config.model, dataset, weight_seed(config)).to(dtype)
    load_checkpoint(checkpoint, model)
    ranks = None if group is None else _TaskRanks(group)
    return build_objective(
        model.to(execution["device"]), dataset, config.loss, ObjectiveConfig.model_validate(objective), ranks
    )


def data_of(config: RunConfig, execution: Mapping[str, Any]) -> Dataset:
    """Return a run's data where and as precise as it trained."""
    import torch

    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    dataset = _dataset(config, execution)
    return dataset.to(execution["device"], dtype)


class SharedOut(Protocol):
    """Processes that measure together, each of which takes its own part of the batches."""

    @property
    def group(self) -> Any:
        """The process group of them all."""

    def own_part(
        self, batches: Sequence[tuple[Tensor, Tensor]], whole: bool
    ) -> Sequence[tuple[Tensor, Tensor]]:
        """Return this process's part of the batches, which with ``whole`` are not cut."""


@dataclass(frozen=True)
class _TaskRanks:
    """The ranks of a task, each of which takes a part of every batch, or some of the batches."""

    group: ProcessGroup

    def own_part(self, batches: Sequence[tuple[Tensor, Tensor]], whole: bool) -> list[tuple[Tensor, Tensor]]:
        import torch

        rank = torch.distributed.get_rank(self.group)
        ranks = torch.distributed.get_world_size(self.group)
        if whole:  # samples of a batch interact
            return list(batches[rank::ranks])
        parts = [(x.tensor_split(ranks)[rank], y.tensor_split(ranks)[rank]) for x, y in batches]
        return [(x, y) for x, y in parts if len(x)]


def build_objective(
    model: nn.Module,
    dataset: Dataset,
    loss: str | None,
    chosen: ObjectiveConfig,
    ranks: SharedOut | None = None,
) -> Objective:
    """Return the objective of a model on a part of a data set, of which each of the ranks takes its own part."""
    import torch

    from sharpscope.objective.objective import Objective
    from sharpscope.training import loss_function

    split = dataset.train if chosen.part == "train" else dataset.test
    inputs, targets = split.inputs, split.targets
    if chosen.samples is not None and chosen.samples < len(split):
        order = torch.randperm(len(split), generator=generator("objective", chosen.seed))[: chosen.samples]
        index = order.to(inputs.device)
        inputs, targets = inputs[index], targets[index]
    size = chosen.batch_size or len(inputs)
    name = loss or ("mse" if dataset.task == "regression" else "cross_entropy")
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    if ranks is None:
        return Objective(model, loss_function(name), batches, chosen.mode)
    own = ranks.own_part(batches, chosen.mode == "train")
    return Objective(model, loss_function(name), own, chosen.mode, group=ranks.group)


def _dataset(config: RunConfig, execution: Mapping[str, Any]) -> Dataset:
    """Return a run's data as loaded, once per worker."""
    path = execution.get("tables", {}).get(config.data.digest)
    return _loaded(config.data.model_dump_json(), execution["data_dir"], path)


@lru_cache(maxsize=2)
def _loaded(config: str, data_dir: str | None, path: str | None) -> Dataset:
    from sharpscope.data import DataConfig, load

    chosen = DataConfig.model_validate_json(config).model_copy(update={"path": path})
    return load(chosen, data_dir=data_dir)


def forget_data() -> None:
    """Free the memory of the data sets loaded so far."""
    _loaded.cache_clear()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a table of keys as JSON, the same bytes for the same content."""
    path.write_text(readable_json(content), encoding="utf-8")
