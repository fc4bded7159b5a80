"""Estimate what a study costs on this machine: the time of one step of each network, times the number of steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

from sharpscope.data import DataConfig
from sharpscope.studies.file.schema import ObjectiveConfig
from sharpscope.studies.plan.joint import JointPlan
from sharpscope.training import RunConfig, weight_seed

if TYPE_CHECKING:
    from sharpscope.data import Dataset

FORWARD = 1 / 3
"""Share of a gradient's time that a loss takes."""

LAMBDA_MAX = 30.0
"""Gradients that a search for the top eigenvalue is expected to cost: about twelve products of two gradients each."""

DRAWS = 30
"""Draws that a trace or Frobenius norm is expected to need where the study does not say."""

_SIZES = {
    "digits": (1_437, 360, (1, 8, 8), 10),
    "fashion_mnist": (60_000, 10_000, (1, 28, 28), 10),
    "cifar10": (50_000, 10_000, (3, 32, 32), 10),
    "abalone": (3_341, 836, (10,), 1),
    "cora": (140, 1_000, (), 7),
}
"""Training and test samples, shape of a sample, outputs: known without the files."""

_CORA = (2_708, 1_433, 10_556)  # nodes, features, directed edges


@dataclass(frozen=True)
class StudyCost:
    """An estimate: runs, and seconds of one core for training them and for measuring."""

    runs: int
    training: float
    measuring: float

    @property
    def seconds(self) -> float:
        """Seconds of one core in all."""
        return self.training + self.measuring


@dataclass
class Calibration:
    """Times of the networks met so far: seconds of a gradient over b samples, as a + b·c."""

    known: dict[tuple[str, str, str], tuple[float, float]] = field(default_factory=dict)

    def gradient(self, config: RunConfig, samples: int) -> float:
        """Return the seconds of one loss and gradient of a run's network over so many samples, on one core."""
        data = config.data
        key = (f"{data.name} {data.neighbours} {data.digest}", config.model.model_dump_json(), config.dtype)
        if key not in self.known:
            self.known[key] = _timed(config)
        start, each = self.known[key]
        return start + each * samples


def cost_of(plan: JointPlan, calibration: Calibration | None = None) -> StudyCost:
    """Return what a plan is expected to cost on this machine, with one thread per run.

    Every network is built once and two small steps are timed on random numbers in the shape of its data; nothing is
    loaded or downloaded. The estimate assumes that every run lasts as many epochs as it may, so it is far too high
    where a stopping rule ends runs earlier. It assumes the usual number of products for a search and the usual number
    of draws for an estimate. It is right to an order of magnitude.
    """
    timing = calibration or Calibration()
    training = sum(_training(run.config, timing) for run in plan.runs)
    measuring, seen = 0.0, set()
    for one in plan.plans:
        objective = one.study.config.objective
        configs = {run.id: run.config for run in one.runs}
        for measure in one.measures:
            if measure.id not in seen:
                seen.add(measure.id)
                measuring += _measure(measure.spec, configs[measure.run], objective, timing)
        for track in one.tracks:
            if track.id not in seen:
                seen.add(track.id)
                config = configs[track.run]
                times = config.stop.epochs // track.every + 2
                chosen = ObjectiveConfig.model_validate(track.objective)
                measuring += times * _measure(track.spec, config, chosen, timing)
        for view in one.views:
            if view.id not in seen:
                seen.add(view.id)
                chosen = ObjectiveConfig.model_validate(view.objective)
                measuring += _view(view.kind, view.request, configs[view.runs[0]], chosen, timing)
    return StudyCost(len(plan.runs), training, measuring)


def _training(config: RunConfig, timing: Calibration) -> float:
    train, test = samples_of(config.data)
    size = train if config.batch_size == "full" else int(config.batch_size)
    steps = (config.steps_per_epoch or 1) if config.batch_size == "full" else ceil(train / size)
    passes = 2 if config.optimizer.name in ("sam", "asam") else 1
    evaluation = FORWARD * timing.gradient(config, train + test)
    return config.stop.epochs * (steps * passes * timing.gradient(config, min(size, train)) + evaluation)


def _measure(
    spec: Mapping[str, Any], config: RunConfig, objective: ObjectiveConfig, timing: Calibration
) -> float:
    available = samples_of(config.data)[0 if objective.part == "train" else 1]
    n = min(objective.samples or available, available)
    whole = timing.gradient(config, n)
    draws = spec.get("samples") or DRAWS
    name = spec["measure"]
    if name in ("trace", "frobenius_norm"):
        return (LAMBDA_MAX + 2 * draws) * whole
    if name == "average_direction":
        return int(spec.get("samples", 294)) * FORWARD * whole
    if name == "hammoud2023" and spec.get("protocol") == "as_coded":
        return {"fcnn": 6 * ceil(n / 64) * whole, "lenet": 10 * whole, "gat": 60 * whole}[
            spec.get("model", "fcnn")
        ]
    if name in ("worst_case", "hammoud2023"):
        batch = spec.get("batch_size", 64)
        restarts = 1 if batch is None else int(spec.get("restarts", 50))
        ascent_step = timing.gradient(config, n if batch is None else min(int(batch), n))
        return restarts * (int(spec.get("steps", 5)) + 1) * ascent_step
    if name == "between_iterates":
        normed = "bn" in config.model.name or bool(config.model.options.get("batch_norm"))
        return (int(spec.get("points", 8)) if normed else 1) * LAMBDA_MAX * whole
    gradients = {"gradient_norm": 1.0, "sam_step": 2.0, "weight_kurtosis": 0.0}
    return gradients.get(name, LAMBDA_MAX) * whole


def _view(
    kind: str, request: Mapping[str, Any], config: RunConfig, objective: ObjectiveConfig, timing: Calibration
) -> float:
    available = samples_of(config.data)[0 if objective.part == "train" else 1]
    loss = FORWARD * timing.gradient(config, min(objective.samples or available, available))
    if kind == "landscapes":
        return int(request["alphas"]["points"]) * 2 * loss
    if kind == "surfaces":
        return int(request["points"]) ** 2 * 2 * loss
    if kind == "audits":
        specs = [{"measure": m} if isinstance(m, str) else m for m in request["measures"]]
        return (1 + int(request["repetitions"])) * sum(_measure(s, config, objective, timing) for s in specs)
    return 0.0


def samples_of(data: DataConfig) -> tuple[int, int]:
    """Return the training and test samples of a configuration."""
    if data.name in _SIZES:
        train, test = _SIZES[data.name][:2]
    else:
        train, test = _read_sizes(data.model_dump_json())
    train = data.train_samples or train - (data.validation_samples or 0)
    return train, data.test_samples or test


@lru_cache(maxsize=64)
def _read_sizes(data: str) -> tuple[int, int]:
    """Return the training and test samples of data that have to be read for it: once for all runs of a study."""
    found = _stand_in(DataConfig.model_validate_json(data))
    return len(found.train), len(found.test)


def _timed(config: RunConfig) -> tuple[float, float]:
    """Return a and c of the time of a gradient over b samples, a + b·c, from two sizes of batch."""
    import torch

    from sharpscope.models import build
    from sharpscope.training.losses import loss_function

    dataset = _stand_in(config.data)
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    model = build(config.model, dataset, weight_seed(config)).to(dtype).train()
    dataset = dataset.to("cpu", dtype)
    # a loss of the user's own is not imported to time it: beside the network it costs next to nothing
    loss = loss_function("mse" if dataset.task == "regression" else "cross_entropy")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        sizes = [min(s, len(dataset.train)) for s in (4, 16)]
        for size in sizes:
            inputs, targets = dataset.train.inputs[:size], dataset.train.targets[:size]
            best = float("inf")
            for _ in range(3):  # the first one warms up; what takes long needs no third
                if 0.3 < best < float("inf"):
                    break
                began = time.perf_counter()
                loss(model(inputs), targets).backward()
                best = min(best, time.perf_counter() - began)
            times.append(best)
    finally:
        torch.set_num_threads(threads)
    each = max(0.0, (times[1] - times[0]) / max(1, sizes[1] - sizes[0]))
    if dataset.graph is not None:  # every node's state is computed, however many are asked for
        return times[1], 0.0
    return max(0.0, times[0] - each * sizes[0]), each


def _stand_in(data: DataConfig) -> Dataset:
    """Return a few samples in the shape of a data set; a table itself, and the digits where they are a graph."""
    import torch

    from sharpscope.data import Dataset, Graph, Split, load

    if data.name not in _SIZES or data.neighbours is not None:
        return load(data)
    _, _, shape, outputs = _SIZES[data.name]
    inputs = torch.randn(32, *shape) if shape else torch.arange(32)
    targets = torch.randn(32, 1) if outputs == 1 else torch.arange(32) % outputs
    graph = None
    if data.name == "cora":
        nodes, features, edges = _CORA
        graph = Graph(torch.rand(nodes, features), torch.randint(nodes, (2, edges)))
    split = Split(inputs, targets)
    task = "regression" if outputs == 1 else "classification"
    return Dataset(data.name, task, outputs, shape, split, None, split, "", graph=graph)  # type: ignore[arg-type]
