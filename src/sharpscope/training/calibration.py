"""How many runs train best at the same time here: measured once, remembered, and never a matter of bits."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sharpscope.data.folders import cache_folder
from sharpscope.models.registry import SETTINGS
from sharpscope.serialization import readable_json, write_whole
from sharpscope.training.compatible import group_key
from sharpscope.training.engines import direct, engine_for
from sharpscope.training.member import Member
from sharpscope.training.reproducible import reproducible

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset
    from sharpscope.training.config import RunConfig

SIZES = (1, 2, 4, 8, 16, 32)
"""The sizes that are tried, while each is better than the one before."""

_SECONDS = 0.2  # for each size
_WORTH_IT = 0.95  # of the time of a smaller group: memory is not spent on less


def group_size(
    config: RunConfig,
    data: Callable[[], tuple[Dataset, nn.Module]],
    *,
    device: str = "cpu",
    threads: int = 1,
    file: Path | None = None,
) -> int:
    """Return how many runs like this one `train_together` trains fastest at the same time, each counted.

    `data` loads what the measurement needs, the data set and a model with initial weights; it is called only where
    nothing is remembered. What was found is kept in `file`, by default ``group_sizes.json`` in the cache folder,
    under the kind of run, the processor, the number of threads and torch's version.

    It is 1 where nothing is shared: for models other than perceptrons, and on a GPU. Whatever comes out, no result
    depends on it, since `train_together` gives every model the bits it has alone.
    """
    setting = SETTINGS.get(config.model.name)
    if (
        group_key(config) is None
        or device != "cpu"
        or (setting is not None and setting.architecture != "mlp")
    ):
        return 1
    file = file or cache_folder() / "group_sizes.json"
    kind = _kind(config, threads)
    known = _read(file)
    if kind not in known:
        dataset, model = data()
        known = {**_read(file), kind: _measured(config, dataset, model, threads)}
        _write(file, known)
    return known[kind]


def _measured(config: RunConfig, dataset: Dataset, model: nn.Module, threads: int) -> int:
    """Try sizes until one is not worth it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        best, best_time = 1, float("inf")
        for size in SIZES:
            spent = _time_per_model(config, dataset, model, size)
            if spent is None:
                return 1
            if spent > _WORTH_IT * best_time:
                break
            best, best_time = size, spent
        return best
    finally:
        torch.set_num_threads(before)


def _time_per_model(config: RunConfig, dataset: Dataset, model: nn.Module, size: int) -> float | None:
    """Return the seconds of one step of one model among `size`, None where nothing is shared among them."""
    device = torch.device("cpu")
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    dataset = dataset.to(device, dtype)
    models = [deepcopy(model).to(dtype) for _ in range(size)]
    with reproducible(device):
        members = [Member(config, dataset, one, device, None, 0.0) for one in models]
        if not all(map(direct.takes, members)):
            return None
        for member in members:
            member.begin()
        engine, steps = engine_for(members), len(members[0].batches)
        engine.begin()
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - begin < _SECONDS:
            before = time.perf_counter()
            engine.step(len(times) % steps)
            times.append(time.perf_counter() - before)
    return min(times[1:]) / size  # the least disturbed; the first step fetches memory


def _kind(config: RunConfig, threads: int) -> str:
    said = [
        group_key(config),
        threads,
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        _processor(),
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _processor() -> str:
    """The processor's name; on Linux `platform` knows no more than its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()


def _read(file: Path) -> dict[str, int]:
    """What is remembered; nothing where the file is missing or not what was written."""
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return {str(k): v for k, v in content.items() if v in SIZES}
    return {}


def _write(file: Path, content: dict[str, int]) -> None:
    """Remember, if the disk allows: a measurement that is forgotten is taken again."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, readable_json(content))
