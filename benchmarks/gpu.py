"""What a GPU makes of it: tests, products, λ_max, training and the papers' experiments, part by part.

    SHARPSCOPE_DATA=... python benchmarks/gpu.py [PART ...] [--output gpu.json] [--minutes 10] [--again]
    python benchmarks/gpu.py --toy                      # every part in small, on a CPU

Parts, in this order: `tests` compares the device with the CPU; `products` times a Hessian product in gradients, eager
and compiled; `lambda_max` the certified and the fast search on the Fashion-MNIST MLP's 60 000 images, and the peers
that are installed; `training` steps per second; `papers` kaur2022 fig1 and coldenhoff2022 expA at paper scale, for as
long as `--minutes` allows, to be gone on with by the same command. Every part is written into one JSON file as soon
as it is done, and a part that is there is not taken again without `--again`. The targets: ResNet-18's compiled
product at most 2.3 compiled gradients, and the MLP's λ_max in at most 0.3 s and half the fastest peer's time.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from sharpscope import Objective
from sharpscope.curvature import CurvatureProducts, top_eigenvalues
from sharpscope.data import DataConfig, load
from sharpscope.models import ModelConfig, build
from sharpscope.training import RunConfig, train, weight_seed

ROOT = Path(__file__).parent.parent
cross_entropy = nn.functional.cross_entropy

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where and how large: ``toy`` for every part in small."""

    device: torch.device
    toy: bool
    minutes: float
    folder: Path

    @property
    def repeats(self) -> int:
        """Timings that a median is taken of."""
        return 1 if self.toy else 15

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], Any]) -> float:
        """Return the median of the seconds that a call takes, after a first one that does not count."""
        times = []
        for _ in range(self.repeats + 1):
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - began)
        return statistics.median(times[1:])


def tests(setting: Setting) -> list[Row]:
    """Compare gradients, products and λ_max on the device with those on the CPU."""
    rows: list[Row] = []
    for name, model, x, y in _networks(setting):
        here = Objective(model, cross_entropy, (x[:64], y[:64]), check="full")
        there = Objective(copy.deepcopy(model).cpu(), cross_entropy, (x[:64].cpu(), y[:64].cpu()))
        v = torch.randn(here.size, generator=torch.Generator().manual_seed(0))
        pairs = {"gradient": (here.gradient(), there.gradient()), "product": (here.hvp(v), there.hvp(v))}
        found: Row = {"network": name}
        for what, (a, b) in pairs.items():
            found[what] = float((a.cpu() - b).norm() / b.norm())
        found["λ_max"] = abs(top_eigenvalues(here).value / top_eigenvalues(there).value - 1)
        found["all below 1e-3"] = max(v for v in found.values() if isinstance(v, float)) < 1e-3
        rows.append(found)
    return rows


# -- products ---------------------------------------------------------------------------------------

NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    # name: (data, model, images in a batch)
    "mlp": ("fashion_mnist", {"name": "mlp", "options": {"hidden": [512, 256, 128]}}, 4096),
    "lenet5": ("fashion_mnist", {"name": "lenet5"}, 4096),
    "vgg11": ("cifar10", {"name": "vgg11"}, 512),
    "resnet18": ("cifar10", {"name": "resnet18"}, 512),
}


def products(setting: Setting) -> list[Row]:
    """Time gradients and Hessian products of one batch, eager with the graph kept, and both compiled."""
    rows = []
    for name, model, x, y in _networks(setting):
        parameters = [p for p in model.parameters() if p.requires_grad]
        obj = Objective(model, cross_entropy, (x, y), check="none", chunk_size=len(x))
        v = torch.randn(obj.size, device=setting.device)
        gradient = setting.seconds(lambda obj=obj: obj.gradient())
        with CurvatureProducts(obj) as product:
            eager = setting.seconds(lambda product=product, v=v: product(v))
        compiled_gradient, compiled_product, agree = _compiled(setting, model, parameters, x, y, obj, v)
        rows.append(
            {
                "network": name,
                "images": len(x),
                "gradient s": gradient,
                "product / gradient": eager / gradient,
                "compiled gradient s": compiled_gradient,
                "compiled product / compiled gradient": compiled_product / compiled_gradient,
                "relative difference": agree,
                "target": 2.3 if name == "resnet18" else None,
            }
        )
    return rows


def _networks(setting: Setting) -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    for name, (data, model, images) in NETWORKS.items():
        if setting.toy and name != "mlp":
            continue
        if setting.toy:
            data, images = "digits", 16
            model = {"name": "mlp", "options": {"hidden": [8]}}
        dataset = load(DataConfig(name=data))
        built = build(ModelConfig.model_validate(model), dataset, 0).to(setting.device).eval()
        x, y = dataset.train.inputs[:images], dataset.train.targets[:images]
        yield name, built, x.to(setting.device), y.to(setting.device)


def _compiled(
    setting: Setting,
    model: nn.Module,
    parameters: list[nn.Parameter],
    x: Tensor,
    y: Tensor,
    obj: Objective,
    v: Tensor,
) -> tuple[float, float, float]:
    """Return seconds of a compiled gradient and product, and how far the product is from the eager one.

    torch.compile refuses a double backward; so the whole product is traced into one graph first, which is compiled.
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]

    def slope(points: list[Tensor], graph: bool) -> tuple[Tensor, ...]:
        loss = cross_entropy(
            torch.func.functional_call(model, dict(zip(names, points, strict=True)), (x,)), y
        )
        return torch.autograd.grad(loss, points, create_graph=graph)

    def gradient(points: list[Tensor]) -> tuple[Tensor, ...]:
        return slope([p.detach().requires_grad_() for p in points], False)

    def product(points: list[Tensor], along: list[Tensor]) -> tuple[Tensor, ...]:
        leaves = [p.detach().requires_grad_() for p in points]
        return torch.autograd.grad(slope(leaves, True), leaves, along)

    backend = "eager" if setting.toy else "inductor"
    points = [p.detach() for p in parameters]
    along = [part.contiguous() for part in obj.layout.split(v).values()]
    one = torch.compile(make_fx(gradient)(points), backend=backend)
    two = torch.compile(make_fx(product)(points, along), backend=backend)
    with torch.no_grad():
        found = obj.layout.join(two(points, along))
        expected = obj.hvp(v)
        apart = float((found - expected).norm() / expected.norm())
        return setting.seconds(lambda: one(points)), setting.seconds(lambda: two(points, along)), apart


# -- λ_max ------------------------------------------------------------------------------------------


def lambda_max(setting: Setting) -> list[Row]:
    """Time λ_max to 1e-3 of a trained perceptron over all images: certified, fast, and by the peers installed."""
    model, x, y = _trained_perceptron(setting)
    obj = Objective(model, cross_entropy, (x, y))
    reference = top_eigenvalues(obj, tol=1e-5).value
    rows: list[Row] = []
    for mode in ("certified", "fast"):
        found: list[Any] = []
        seconds = setting.seconds(
            lambda mode=mode, found=found: found.append(top_eigenvalues(obj, mode=mode))
        )
        rows.append(
            {
                "method": f"sharpscope, {mode}",
                "s": seconds,
                "products": found[-1].products,
                "relative error": abs(found[-1].value / reference - 1),
                "images": len(x),
                "target": 0.3,
            }
        )
    for name, peer in PEERS.items():
        if importlib.util.find_spec(name) is None:
            rows.append({"method": name, "s": None, "note": "not installed"})
            continue
        values: list[float] = []
        seconds = setting.seconds(lambda peer=peer, values=values: values.append(peer(model, x, y)))
        rows.append({"method": name, "s": seconds, "relative error": abs(values[-1] / reference - 1)})
    return rows


def _trained_perceptron(setting: Setting) -> tuple[nn.Module, Tensor, Tensor]:
    settings = {
        "data": "digits" if setting.toy else "fashion_mnist",
        "model": {"name": "mlp", "options": {"hidden": [8] if setting.toy else [512, 256, 128]}},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "batch_size": 100,
        "stop": {"epochs": 1 if setting.toy else 8},
    }
    config = RunConfig.model_validate(settings)
    dataset = load(config.data)
    model = build(config.model, dataset, weight_seed(config))
    train(config, dataset, model, device=setting.device)
    split = dataset.train
    return model.to(setting.device).eval(), split.inputs.to(setting.device), split.targets.to(setting.device)


def _curvlinops(model: nn.Module, x: Tensor, y: Tensor) -> float:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    parts = list(zip(x.split(2000), y.split(2000), strict=True))
    parameters = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, parts)
    return float(eigsh(operator.to_scipy(), k=1, which="LA", tol=1e-3)[0][0])


def _pyhessian(model: nn.Module, x: Tensor, y: Tensor) -> float:
    from pyhessian import hessian

    cuda = x.device.type == "cuda"
    return float(hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=cuda).eigenvalues(tol=1e-3)[0][0])


PEERS: dict[str, Callable[[nn.Module, Tensor, Tensor], float]] = {
    "curvlinops": _curvlinops,
    "pyhessian": _pyhessian,
}


# -- training and the papers ------------------------------------------------------------------------


def training(setting: Setting) -> list[Row]:
    """Time one epoch of training for every network, after one that does not count."""
    rows = []
    for name, (data, model, _) in NETWORKS.items():
        if setting.toy and name != "mlp":
            continue
        settings = {
            "data": {"name": "digits" if setting.toy else data},
            "model": {"name": "mlp", "options": {"hidden": [4]}} if setting.toy else model,
            "optimizer": {"name": "sgd", "lr": 0.01},
            "batch_size": 128,
            "stop": {"epochs": 2},
        }
        config = RunConfig.model_validate(settings)
        dataset = load(config.data)
        built = build(config.model, dataset, weight_seed(config))
        seconds: list[float] = []
        train(
            config,
            dataset,
            built,
            device=setting.device,
            on_epoch=lambda row, s=seconds: s.append(row["seconds"]),
        )
        steps = -(-len(dataset.train) // config.batch_size)
        rows.append({"network": name, "epoch s": seconds[-1], "steps / s": steps / seconds[-1]})
    return rows


EXPERIMENTS = ("kaur2022/fig1", "coldenhoff2022/expA")

TOY_STUDY = """name = "toy"
[run]
data = "digits"
model = { name = "mlp", options = { hidden = [4] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 256
stop = { epochs = 1 }
[[measures]]
measure = "gradient_norm"
"""


def papers(setting: Setting) -> list[Row]:
    """Run the papers' experiments on the device until the time is up; the same command goes on with them."""
    rows = []
    until = time.monotonic() + 60 * setting.minutes
    for experiment in EXPERIMENTS[: 1 if setting.toy else None]:
        store = setting.folder / experiment.replace("/", "-")
        command = [sys.executable, "-m", "sharpscope", "run"]
        if setting.toy:
            setting.folder.mkdir(parents=True, exist_ok=True)
            (setting.folder / "toy.toml").write_text(TOY_STUDY)
            command += [str(setting.folder / "toy.toml"), "--no-report"]
        else:
            command += [experiment, "--scale", "paper", "--device", "cuda"]
        left = until - time.monotonic()
        if left <= 0:
            rows.append({"experiment": experiment, "ended": "not begun: no time left"})
            continue
        ended, said = _interrupted_after([*command, "--store", str(store)], left)
        rows.append({"experiment": experiment, "ended": ended, "said": said, "store": str(store)})
    return rows


def _interrupted_after(command: list[str], seconds: float) -> tuple[str, str]:
    """Run a command, interrupt it as Ctrl-C would when the time is up; return how it ended and its last line."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ended = ""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        ended = "interrupted, "
    return f"{ended}exit {process.returncode}", (said.strip().splitlines() or [""])[-1]


PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "tests": tests,
    "products": products,
    "lambda_max": lambda_max,
    "training": training,
    "papers": papers,
}


def main() -> None:
    """Take the parts that are asked for and not there yet; write and print each as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--minutes", type=float, default=10.0, help="for the papers' experiments together")
    parser.add_argument("--toy", action="store_true", help="every part in small, on a CPU")
    parser.add_argument("--again", action="store_true", help="take parts again that are in the file")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}, received {', '.join(sorted(unknown))}")
    if not asked.toy and not torch.cuda.is_available():
        parser.error("no CUDA device is here: nothing was run. --toy passes every part in small, on a CPU")
    device = torch.device("cpu" if asked.toy else "cuda")
    setting = Setting(device, asked.toy, asked.minutes, asked.output.absolute().parent / "gpu-runs")
    known: dict[str, Any] = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    known["device"] = platform.processor() or "cpu" if asked.toy else torch.cuda.get_device_name(device)
    known["torch"], known["toy"] = torch.__version__, asked.toy
    for name in asked.parts or PARTS:
        if name in known and not asked.again:
            continue
        began = time.perf_counter()
        try:
            rows = PARTS[name](setting)
        except Exception as error:  # the other parts are worth having
            rows = [{"failed": f"{type(error).__name__}: {error}"}]
        known[name] = {"seconds": round(time.perf_counter() - began, 1), "rows": rows}
        partial = asked.output.with_suffix(".part")
        partial.write_text(json.dumps(known, indent=1))
        os.replace(partial, asked.output)
        print_table(name, rows)
    sys.exit(any("failed" in row for name in asked.parts or PARTS for row in known[name]["rows"]))


def print_table(name: str, rows: list[Row]) -> None:
    """Print a part's rows as a table in Markdown."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n## {name}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        cells = [row.get(column) for column in columns]
        print(
            "|",
            " | ".join(f"{c:.3g}" if isinstance(c, float) else "" if c is None else str(c) for c in cells),
            "|",
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
