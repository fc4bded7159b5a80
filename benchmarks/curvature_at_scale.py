"""λ_max where memory or time are short: all of CIFAR-10 within a budget, and along a training run.

    python benchmarks/curvature_at_scale.py memory [--samples 50000] [--budget 2GiB] [--threads 2] [--keep FOLDER]
    python benchmarks/curvature_at_scale.py track [--checkpoints 20] [--steps 25] [--threads 2]
    python benchmarks/curvature_at_scale.py norms [--rtol 0.01] [--threads 2]
    python benchmarks/curvature_at_scale.py small [--checkpoints 20] [--steps 25] [--threads 2]

`memory` measures the trained VGG-11 on the given number of CIFAR-10 training images with graphs kept within the
budget, and prints the peak resident memory beside what it was before; with `--keep`, every product is written to a
folder as it is done, and the same command goes on where it was stopped. `track` follows λ_max of the Fashion-MNIST
MLP (60 000 samples) along training, each search started from the last one's result, and prints the full products of
each. `small` does so for a perceptron of 8 887 parameters on 1 000 images, certified, beside a search from nothing
and scipy's eigsh begun at its last eigenvector, all three on kept graphs, and prints gradients of processor time.
`norms` takes ‖H‖_F and the trace of the MLP to a relative standard error and prints the products they took.
Needs the data folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from problems import trained
from sharpscope import Objective
from sharpscope.curvature import CurvatureProducts, frobenius_norm, top_eigenvalues, trace
from sharpscope.data import DataConfig, load

cross_entropy = nn.functional.cross_entropy
GIB = 2**30
TOL = 1e-3


def kept_in(folder: Path) -> Callable[[CurvatureProducts, Tensor], Tensor]:
    """Return `CurvatureProducts.__call__` with products taken from a folder where they are there already.

    Beside each stand the seconds it took and the peak resident memory when it was done.
    """
    multiply = CurvatureProducts.__call__
    folder.mkdir(parents=True, exist_ok=True)

    def product(self: CurvatureProducts, block: Tensor) -> Tensor:
        key = hashlib.sha256(self.obj.fingerprint.encode() + block.numpy().tobytes()).hexdigest()[:16]
        file = folder / f"{key}.safetensors"
        if file.exists():
            self.obj.cost.products += 1 if block.ndim == 1 else len(block)
            return load_file(file)["image"]
        began = time.perf_counter()
        image = multiply(self, block)
        told = {"seconds": time.perf_counter() - began, "samples": self.obj.n_samples, "peak": peak()}
        save_file({"image": image.contiguous()}, file.with_suffix(".part"))
        file.with_suffix(".json").write_text(json.dumps(told))
        file.with_suffix(".part").rename(file)
        return image

    return product


def peak() -> int:
    """Return the most memory that the process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(samples: int, budget: str, keep: Path | None) -> None:
    from sharpscope.data import DataConfig, load

    model, _, _ = trained("vgg11")
    train = load(DataConfig(name="cifar10")).train
    x, y = train.inputs[:samples].contiguous(), train.targets[:samples]
    del train
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    obj = Objective(model, cross_entropy, (x, y))
    if keep is not None:
        CurvatureProducts.__call__ = kept_in(keep)  # type: ignore[assignment, method-assign]
    found = top_eigenvalues(obj, memory=budget)
    seconds, most = time.perf_counter() - began, peak()
    if keep is not None:
        told = [json.loads(file.read_text()) for file in keep.glob("*.json")]
        seconds, most = sum(one["seconds"] for one in told), max(one["peak"] for one in told)
    print(
        f"VGG-11, {obj.size} parameters, {samples} CIFAR-10 images (JPEG-compressed), graphs within {budget}"
    )
    print(f"λ_max {found.value:.6g} ± {found.error_estimates[0]:.1g}, converged {bool(found.converged[0])}")
    print(f"{found.products} full products, {seconds:.0f} s{' of products in all sittings' if keep else ''}")
    print(f"resident: {before / GIB:.2f} GiB with model and data loaded, at most {most / GIB:.2f} GiB in all")


def track(checkpoints: int, steps: int) -> None:
    model, x, y = trained("mlp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    draws = torch.Generator().manual_seed(0)
    start, products = None, []
    for checkpoint in range(checkpoints):
        began = time.perf_counter()
        found = top_eigenvalues(Objective(model, cross_entropy, (x, y)), start=start, mode="fast")
        products.append(found.products)
        start = found
        print(
            f"checkpoint {checkpoint:2d}: λ_max {found.value:8.4f} ± {found.error_estimates[0]:.1g}, "
            f"{found.products:.2f} products, {time.perf_counter() - began:.1f} s",
            flush=True,
        )
        model.train()
        for _ in range(steps):
            batch = torch.randint(len(x), (100,), generator=draws)
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        model.eval()
    print(f"mean {sum(products) / len(products):.2f} full products a checkpoint, {steps} steps apart")


def small(checkpoints: int, steps: int) -> None:
    data = load(DataConfig(name="fashion_mnist", train_samples=1000, test_samples=100)).train
    x, y = data.inputs.flatten(1), data.targets
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 11), nn.Tanh(), nn.Linear(11, 11), nn.Tanh(), nn.Linear(11, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    obj = Objective(model, cross_entropy, (x, y))
    last: dict[str, Any] = {"eigsh": None}

    def eigsh_from_last() -> float:
        with CurvatureProducts(obj) as product:
            size = (obj.size, obj.size)
            operator = LinearOperator(size, lambda v: product(torch.from_numpy(v)).numpy(), dtype=np.float32)
            values, last["eigsh"] = eigsh(operator, k=1, which="LA", tol=TOL, v0=last["eigsh"])
        return float(values[0])

    def followed(mode: str) -> float:
        last[mode] = top_eigenvalues(obj, tol=TOL, start=last.get(mode), mode=mode)
        return float(last[mode].value)

    methods: dict[str, Callable[[], float]] = {
        "gradient": lambda: float(obj.gradient().norm()),
        "from nothing": lambda: float(top_eigenvalues(obj, tol=TOL).value),
        "followed": lambda: followed("certified"),
        "followed, fast": lambda: followed("fast"),
        "eigsh from its last": eigsh_from_last,
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for checkpoint in range(checkpoints):
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        found = {}
        for name, method in methods.items():
            began = time.process_time()
            found[name] = method()
            seconds[name].append(time.process_time() - began)
        if checkpoint:
            gradient = statistics.median(seconds["gradient"])
            print(
                f"checkpoint {checkpoint:2d}: λ_max {found['followed']:8.4f}; "
                + ", ".join(f"{name} {taken[-1] / gradient:.1f}" for name, taken in seconds.items()),
                flush=True,
            )
    gradient = statistics.median(seconds["gradient"])
    for name, taken in seconds.items():
        rest = sorted(value / gradient for value in taken[1:])
        print(f"{name}: median {statistics.median(rest):.1f} gradients, most {rest[-1]:.1f}")


def norms(rtol: float) -> None:
    model, x, y = trained("mlp")
    for measure in (frobenius_norm, trace):
        found = measure(Objective(model, cross_entropy, (x, y)), rtol=rtol)
        assert found.stderr is not None
        print(
            f"{found.measure} {found.value:.6g}, standard error {found.stderr / abs(found.value):.2%}, "
            f"{found.cost['products']:.0f} full products, {found.cost['seconds']:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    threads = argparse.ArgumentParser(add_help=False)
    threads.add_argument("--threads", type=int, default=2)
    part = parser.add_subparsers(dest="part", required=True)
    one = part.add_parser("memory", parents=[threads])
    one.add_argument("--samples", type=int, default=50_000)
    one.add_argument("--budget", default="2GiB")
    one.add_argument("--keep", type=Path, metavar="FOLDER")
    other = part.add_parser("track", parents=[threads])
    other.add_argument("--checkpoints", type=int, default=20)
    other.add_argument("--steps", type=int, default=25)
    small_part = part.add_parser("small", parents=[threads])
    small_part.add_argument("--checkpoints", type=int, default=20)
    small_part.add_argument("--steps", type=int, default=25)
    third = part.add_parser("norms", parents=[threads])
    third.add_argument("--rtol", type=float, default=0.01)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part == "memory":
        memory(options.samples, options.budget, options.keep)
    elif options.part == "norms":
        norms(options.rtol)
    elif options.part == "small":
        small(options.checkpoints, options.steps)
    else:
        track(options.checkpoints, options.steps)


if __name__ == "__main__":
    main()
