"""λ_max to a true relative error of 1e-3: sharpscope beside PyHessian, hessian-eigenthings and curvlinops with eigsh.

    python benchmarks/eigenvalues.py [mlp lenet5 vgg11 resnet56] [--repeats 3] [--threads 2] [--keep FOLDER] [--busy]
    python benchmarks/eigenvalues.py --profile [PROBLEM ...]

Needs the extra `benchmark` and the data folder. (curvlinops brings a torchvision that may not match a CPU-only torch;
where `transformers` then fails to import, uninstall torchvision, which nothing here uses.)

Every method has the same trained weights, samples and threads; they take turns in one process, and the medians are
printed. The reference is Lanczos with full reorthogonalisation run to 1e-6. A method without a stopping rule on the
error gets the smallest number of steps that suffices: hessian-eigenthings from the reference, which begins at its
start vector; PyHessian, whose own rule looks at the change of a value that creeps, by stopping its first turn where
the error is reached, or gone without where that takes over twice as long as the fastest peer. What does not
reach the error is printed with what it reached. A peer whose first turn takes over twice the fastest peer's takes no
other.

The large networks take hours. With `--keep` the reference and every turn are written into a folder as soon as they
are done, and the same command, interrupted anywhere and started again, goes on with the next turn.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from problems import PROBLEMS, trained
from sharpscope import Objective
from sharpscope.curvature import CurvatureProducts, top_eigenvalues
from sharpscope.curvature.lanczos import Krylov, lanczos

TARGET = 1e-3
THEIR_SEED = 0
MOST_STEPS = 150
MEMORY: str | None = None
CLOCK = time.perf_counter
"""With --busy time.process_time, which other processes disturb less; with one thread the two mean the same."""
PATIENCE = 2
"""Times the fastest peer's seconds that PyHessian's power iteration may take."""
CHUNKS = {"mlp": 2000, "lenet5": 250, "vgg11": 50, "resnet56": 100}
"""Samples per batch for the peers that take batches: divisors, since some weigh every batch equally."""
WHOLE_GRAPH = ("mlp", "lenet5", "vgg11")
"""Where the graph of all samples fits in memory, PyHessian keeps it; elsewhere it gets batches, its other mode."""

cross_entropy = nn.functional.cross_entropy


@dataclass
class Problem:
    """A trained model, the samples of its Hessian, and the eigenvalue that is asked for."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    reference: float = 0.0
    steps: int = 0
    """Lanczos steps that reach the error from the reference's start vector."""

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        size = CHUNKS[self.name]
        return list(zip(self.x.split(size), self.y.split(size), strict=True))

    def error(self, value: float) -> float:
        return abs(value / self.reference - 1)


class Kept:
    """What is known already, by name: in a file, where one is wanted, written anew after every addition."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[str, Any] = json.loads(file.read_text()) if file and file.exists() else {}

    def get(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what is known under a name, found now if it is not."""
        if name not in self.known:
            self.known[name] = find()
            if self.file:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                half = self.file.with_suffix(".half")
                half.write_text(json.dumps(self.known, indent=2))
                half.replace(self.file)
        return self.known[name]


def refer(problem: Problem) -> dict[str, float]:
    """Find λ_max by plain Lanczos, its error by Kato and Temple at most 1e-6, and the steps that 1e-3 takes."""
    obj = Objective(problem.model, cross_entropy, (problem.x, problem.y))
    draws = torch.Generator().manual_seed(12345)
    outermost: list[float] = []

    def done(krylov: Krylov) -> bool:
        values, _, residuals = krylov.ritz()
        outermost.append(values[-1])
        gap = values[-1] - values[-2] if len(values) > 5 else 0.0
        return bool(gap > 0 and residuals[-1] ** 2 / gap < 1e-6 * values[-1])

    def fresh() -> Tensor:
        return torch.randn(obj.size, generator=draws)

    start = torch.randn(obj.size, generator=torch.Generator().manual_seed(THEIR_SEED))
    with CurvatureProducts(obj) as product:
        values, _, _ = lanczos(product, start, MOST_STEPS, fresh, done).ritz()
    return {
        "value": float(values[-1]),
        "second": float(values[-2]),
        "least": float(values[0]),
        "steps": len(values),
        "enough": next(i + 1 for i, v in enumerate(outermost) if abs(v / values[-1] - 1) <= TARGET),
    }


def sharpscope(problem: Problem, seed: int, mode: str = "certified") -> tuple[float, str]:
    obj = Objective(problem.model, cross_entropy, (problem.x, problem.y))
    found = top_eigenvalues(obj, tol=TARGET, seed=seed, memory=MEMORY, mode=mode)
    claimed = found.error_estimates[0] / found.value
    said = "converged" if found.converged[0] else "NOT converged"
    return found.value, f"{found.products:.1f} products, error estimate {claimed:.1e}, {said}"


def eigenthings(problem: Problem) -> tuple[float, str]:
    from hessian_eigenthings import HessianOperator, supervised_loss
    from hessian_eigenthings import lanczos as their_lanczos

    operator = HessianOperator(problem.model, problem.batches, supervised_loss(cross_entropy))
    result = their_lanczos(operator, k=1, max_iter=problem.steps, which="LA", seed=THEIR_SEED)
    return float(result.eigenvalues[0]), f"{problem.steps} steps"


def _their_computer(problem: Problem):  # type: ignore[no-untyped-def]
    from pyhessian import hessian

    torch.manual_seed(THEIR_SEED)
    samples = (
        {"data": (problem.x, problem.y)} if problem.name in WHOLE_GRAPH else {"dataloader": problem.batches}
    )
    return hessian(problem.model, nn.CrossEntropyLoss(), cuda=False, **samples)


def pyhessian(problem: Problem, steps: int) -> tuple[float, str]:
    values, _ = _their_computer(problem).eigenvalues(maxIter=steps, tol=0.0)
    problem.model.zero_grad(set_to_none=True)
    return float(values[0]), f"{steps} power iterations"


def first_pyhessian(problem: Problem, limit: float) -> dict[str, Any]:
    """Iterate as PyHessian does until the value is within the error, or for ``limit`` s: its turn and its steps.

    These are the operations of its ``eigenvalues`` for one eigenvalue, so stopping here takes the time that it would
    take, told beforehand how many iterations suffice.
    """
    from pyhessian.utils import group_product, hessian_vector_product, normalization

    began = CLOCK()
    computer = _their_computer(problem)
    v = normalization([torch.randn(p.size()) for p in computer.params])
    step, error = 0, math.inf
    while error > TARGET and CLOCK() - began < limit:
        step += 1
        if problem.name in WHOLE_GRAPH:
            image = hessian_vector_product(computer.gradsH, computer.params, v)
            value = group_product(image, v).item()
        else:
            value, image = computer.dataloader_hv_product(v)
        error = problem.error(value)
        v = normalization(image)
    seconds = CLOCK() - began
    problem.model.zero_grad(set_to_none=True)
    missed = "" if error <= TARGET else "  MISSES THE ERROR, not gone on with"
    return {
        "seconds": seconds,
        "said": f"error {error:.1e}  {step} power iterations{missed}",
        "steps": step if error <= TARGET else None,
    }


def curvlinops(problem: Problem) -> tuple[float, str]:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    parameters = [p for p in problem.model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(
        problem.model, nn.CrossEntropyLoss(), parameters, problem.batches, check_deterministic=False
    ).to_scipy()
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(operator.dtype)
    return float(eigsh(operator, k=1, which="LA", tol=TARGET, v0=start)[0][0]), f"eigsh tol {TARGET:g}"


def gradient_seconds(problem: Problem) -> float:
    obj = Objective(problem.model, cross_entropy, (problem.x, problem.y))
    obj.gradient()
    began = CLOCK()
    obj.gradient()
    return CLOCK() - began


def compare(name: str, repeats: int, folder: Path | None) -> None:
    model, x, y = trained(name)
    problem = Problem(name, model, x, y)
    kept = Kept(folder / f"{name}.json" if folder else None)
    print(f"\n{name}: {sum(p.numel() for p in model.parameters())} parameters, {len(x)} samples", flush=True)
    found = kept.get("reference", lambda: refer(problem))
    problem.reference = found["value"]
    problem.steps = kept.known.get("hessian-eigenthings, turn 0", {}).get("steps", found["enough"])
    print(
        f"  reference λ_max {found['value']:.6g}, λ₂ {found['second']:.6g}, λ_min {found['least']:.4g}, "
        f"{found['steps']} steps",
        flush=True,
    )
    methods: dict[str, Callable[[int], tuple[float, str]]] = {
        "sharpscope": lambda number: sharpscope(problem, number),
        "sharpscope, fast": lambda number: sharpscope(problem, number, "fast"),
        "hessian-eigenthings": lambda _: eigenthings(problem),
        "curvlinops + eigsh": lambda _: curvlinops(problem),
    }

    def turn(method: str, number: int) -> float:
        def take() -> dict[str, Any]:
            return _turn(problem, lambda: methods[method](number))

        taken = kept.get(f"{method}, turn {number}", take)
        _print(method, taken["seconds"], taken["said"])
        return float(taken["seconds"])

    seconds = {method: [turn(method, 0)] for method in methods}
    # what the reference foretells, its own rounding may miss by a step
    while "MISSES" in kept.known["hessian-eigenthings, turn 0"]["said"]:
        problem.steps += 1
        del kept.known["hessian-eigenthings, turn 0"]
        seconds["hessian-eigenthings"] = [turn("hessian-eigenthings", 0)]
    fastest = min(times[0] for method, times in seconds.items() if not method.startswith("sharpscope"))
    power = kept.get("PyHessian, turn 0", lambda: first_pyhessian(problem, PATIENCE * fastest))
    _print("PyHessian", power["seconds"], power["said"])
    if power["steps"] is not None:
        methods["PyHessian"] = lambda _: pyhessian(problem, power["steps"])
        seconds["PyHessian"] = [power["seconds"]]
    for number in range(1, repeats):
        for method in methods:
            if method.startswith("sharpscope") or seconds[method][0] <= 2 * fastest:
                seconds[method].append(turn(method, number))
    medians = {method: statistics.median(times) for method, times in seconds.items()}
    ours, gradient = medians["sharpscope"], gradient_seconds(problem)
    print(f"  medians of {repeats}, of one turn where marked (1); a gradient takes {gradient:.2f} s")
    for method, median in sorted(medians.items(), key=lambda item: item[1]):
        ratio = (
            f"{median / ours:5.1f} x sharpscope's"
            if method != "sharpscope"
            else f"{ours / gradient:5.1f} gradients"
        )
        _print(method, median, ratio + (" (1)" if len(seconds[method]) < repeats else ""))


def _turn(problem: Problem, run: Callable[[], tuple[float, str]]) -> dict[str, Any]:
    """Return the seconds of one turn, and what was reached in words."""
    began = CLOCK()
    value, said = run()
    seconds = CLOCK() - began
    error = problem.error(value)
    reached = "" if error <= TARGET else "  MISSES THE ERROR"
    return {"seconds": seconds, "said": f"error {error:.1e}  {said}{reached}", "steps": problem.steps}


def _print(method: str, seconds: float, said: str) -> None:
    print(f"    {method:20s} {seconds:8.2f} s  {said}", flush=True)


def profile(name: str) -> None:
    """Print where sharpscope's time goes: products over the whole data, over subsets, the rest."""
    model, x, y = trained(name)
    spent: dict[str, list[float]] = {}
    call = CurvatureProducts.__call__

    def timed(self: CurvatureProducts, block: Tensor) -> Tensor:
        graph = "graph kept" if self.kept_bytes else "graph built"
        kind = f"{int(self.obj.evaluator.evaluated)} samples, {graph}"
        began = CLOCK()
        out = call(self, block)
        spent.setdefault(kind, []).append((CLOCK() - began) / (1 if block.ndim == 1 else len(block)))
        return out

    CurvatureProducts.__call__ = timed  # type: ignore[method-assign]
    obj = Objective(model, cross_entropy, (x, y))
    began = CLOCK()
    found = top_eigenvalues(obj, tol=TARGET, memory=MEMORY)
    total = CLOCK() - began
    CurvatureProducts.__call__ = call  # type: ignore[method-assign]
    print(f"\n{name}: {total:.2f} s, {found.products} full products, chunks of {obj.evaluator.chunk_size}")
    for kind, times in spent.items():
        print(f"  {kind}: {len(times)} calls, {statistics.median(times):.3f} s a vector, {sum(times):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=", ".join(PROBLEMS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep every turn there, go on from what it holds"
    )
    parser.add_argument("--memory", help="for sharpscope's kept graphs, by default half of what is free")
    parser.add_argument("--profile", action="store_true", help="where sharpscope's own time goes, no peers")
    parser.add_argument(
        "--busy", action="store_true", help="count processor time, for a machine that does other work"
    )
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"no problem is called {', '.join(sorted(unknown))}; choose from {', '.join(PROBLEMS)}")
    torch.set_num_threads(options.threads)
    global MEMORY, CLOCK
    MEMORY = options.memory
    if options.busy:
        CLOCK = time.process_time
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in options.problems or PROBLEMS:
        profile(name) if options.profile else compare(name, options.repeats, options.keep)


if __name__ == "__main__":
    main()
