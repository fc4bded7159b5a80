"""λ_max to a true relative error of 1e-3: sharpscope beside PyHessian, hessian-eigenthings and curvlinops with eigsh.

    python benchmarks/eigenvalues.py [mlp lenet5 vgg11 resnet56] [--repeats 3] [--threads 2] [--profile]

Needs the extra `benchmark` and the data folder. (curvlinops brings a torchvision that may not match a CPU-only torch;
where `transformers` then fails to import, uninstall torchvision, which nothing here uses.)

Every method has the same trained weights, samples and threads; they take turns in one process, and the medians are
printed. The reference is Lanczos with full reorthogonalisation run to 1e-6. A method without a stopping rule on the
error (hessian-eigenthings; PyHessian, whose rule looks at the change of a value that creeps) gets the smallest number
of steps that suffices from its own start vector, found beforehand and not timed. What does not reach the error is
printed with what it reached. A peer whose first turn takes over twice the fastest peer's takes no other.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from problems import PROBLEMS, trained
from sharpscope import Objective
from sharpscope.curvature import CurvatureProducts, top_eigenvalues
from sharpscope.curvature.lanczos import Krylov, lanczos

TARGET = 1e-3
MOST_STEPS = 150
CHUNKS = {"mlp": 2000, "lenet5": 250, "vgg11": 50, "resnet56": 100}
"""Samples per batch for the peers that take batches: divisors, since some weigh every batch equally."""

cross_entropy = nn.functional.cross_entropy


@dataclass
class Problem:
    """A trained model, the samples of its Hessian, and the eigenvalue that is asked for."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    reference: float = 0.0

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        size = CHUNKS[self.name]
        return list(zip(self.x.split(size), self.y.split(size), strict=True))

    def error(self, value: float) -> float:
        return abs(value / self.reference - 1)


def reference(problem: Problem) -> float:
    """Return λ_max by plain Lanczos, its error by Kato and Temple at most 1e-6."""
    obj = Objective(problem.model, cross_entropy, (problem.x, problem.y))
    draws = torch.Generator().manual_seed(12345)

    def done(krylov: Krylov) -> bool:
        values, _, residuals = krylov.ritz()
        gap = values[-1] - values[-2] if len(values) > 5 else 0.0
        return bool(gap > 0 and residuals[-1] ** 2 / gap < 1e-6 * values[-1])

    with CurvatureProducts(obj) as product:
        fresh = lambda: torch.randn(obj.size, generator=draws)  # noqa: E731
        krylov = lanczos(product, fresh(), MOST_STEPS, fresh, done)
    values, _, _ = krylov.ritz()
    print(
        f"  reference λ_max {values[-1]:.6g}, λ₂ {values[-2]:.6g}, λ_min {values[0]:.4g}, {len(values)} steps"
    )
    return float(values[-1])


def sharpscope(problem: Problem, seed: int) -> tuple[float, str]:
    obj = Objective(problem.model, cross_entropy, (problem.x, problem.y))
    found = top_eigenvalues(obj, tol=TARGET, seed=seed)
    claimed = found.error_estimates[0] / found.value
    said = "converged" if found.converged[0] else "NOT converged"
    return found.value, f"{found.products} full products, error estimate {claimed:.1e}, {said}"


def eigenthings(problem: Problem, steps: int) -> Callable[[], tuple[float, str]]:
    from hessian_eigenthings import lanczos as their_lanczos

    def run() -> tuple[float, str]:
        result = their_lanczos(_their_operator(problem), k=1, max_iter=steps, which="LA", seed=0)
        return float(result.eigenvalues[0]), f"{steps} steps"

    return run


def _their_operator(problem: Problem):  # type: ignore[no-untyped-def]
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(problem.model, problem.batches, supervised_loss(cross_entropy))


def steps_of_eigenthings(problem: Problem) -> int | None:
    from hessian_eigenthings import lanczos_tridiagonal

    operator = _their_operator(problem)
    v0 = torch.randn(operator.size, generator=torch.Generator().manual_seed(0))
    for most in (12, 25, 50):
        t = lanczos_tridiagonal(operator, v0, most)
        diagonal, off = np.asarray(t.alphas, dtype=float), np.asarray(t.betas, dtype=float)
        for m in range(2, len(diagonal) + 1):
            small = np.diag(diagonal[:m]) + np.diag(off[: m - 1], 1) + np.diag(off[: m - 1], -1)
            if problem.error(np.linalg.eigvalsh(small)[-1]) <= TARGET:
                return m
    return None


def pyhessian(problem: Problem, steps: int) -> Callable[[], tuple[float, str]]:
    from pyhessian import hessian

    def run() -> tuple[float, str]:
        torch.manual_seed(0)
        computer = hessian(problem.model, nn.CrossEntropyLoss(), data=(problem.x, problem.y), cuda=False)
        values, _ = computer.eigenvalues(maxIter=steps, tol=0.0)
        problem.model.zero_grad(set_to_none=True)
        return float(values[0]), f"{steps} power iterations"

    return run


def steps_of_pyhessian(problem: Problem) -> int | None:
    """Return the first power iteration, from the peer's start vector, whose value is within the error."""
    from pyhessian import hessian
    from pyhessian.utils import group_product, hessian_vector_product, normalization

    torch.manual_seed(0)
    computer = hessian(problem.model, nn.CrossEntropyLoss(), data=(problem.x, problem.y), cuda=False)
    v = normalization([torch.randn(p.size()) for p in computer.params])
    found = None
    for step in range(1, MOST_STEPS + 1):
        image = hessian_vector_product(computer.gradsH, computer.params, v)
        if problem.error(group_product(image, v).item()) <= TARGET:
            found = step
            break
        v = normalization(image)
    problem.model.zero_grad(set_to_none=True)
    return found


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
    began = time.perf_counter()
    obj.gradient()
    return time.perf_counter() - began


def compare(name: str, repeats: int) -> None:
    model, x, y = trained(name)
    problem = Problem(name, model, x, y)
    print(f"\n{name}: {sum(p.numel() for p in model.parameters())} parameters, {len(x)} samples", flush=True)
    problem.reference = reference(problem)
    seeds = iter(range(1000))
    methods: dict[str, Callable[[], tuple[float, str]]] = {
        "sharpscope": lambda: sharpscope(problem, next(seeds))
    }
    if (steps := steps_of_eigenthings(problem)) is not None:
        methods["hessian-eigenthings"] = eigenthings(problem, steps)
    if (steps := steps_of_pyhessian(problem)) is not None:
        methods["PyHessian"] = pyhessian(problem, steps)
    else:
        print(f"  PyHessian did not reach {TARGET:g} in {MOST_STEPS} power iterations", flush=True)
    methods["curvlinops + eigsh"] = lambda: curvlinops(problem)
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for turn in range(repeats):
        for method, run in methods.items():
            if turn and _out_of_the_race(method, seconds):
                continue
            began = time.perf_counter()
            value, said = run()
            seconds[method].append(time.perf_counter() - began)
            error = problem.error(value)
            reached = "" if error <= TARGET else "  MISSES THE ERROR"
            print(
                f"    {method:20s} {seconds[method][-1]:7.2f} s  error {error:.1e}  {said}{reached}",
                flush=True,
            )
    medians = {method: statistics.median(times) for method, times in seconds.items()}
    ours, gradient = medians["sharpscope"], gradient_seconds(problem)
    print(f"  medians of {repeats}, of one turn where marked (1); a gradient takes {gradient:.2f} s")
    for method, median in sorted(medians.items(), key=lambda item: item[1]):
        ratio = (
            f"{median / ours:5.1f} x sharpscope's"
            if method != "sharpscope"
            else f"{ours / gradient:5.1f} gradients"
        )
        once = " (1)" if len(seconds[method]) < repeats else ""
        print(f"  {method:20s} {median:7.2f} s  {ratio}{once}", flush=True)


def _out_of_the_race(method: str, seconds: dict[str, list[float]]) -> bool:
    """True for a peer whose first turn took over twice the fastest peer's; eigsh is a yardstick of its own."""
    fastest = min(times[0] for name, times in seconds.items() if name != "sharpscope")
    return method not in ("sharpscope", "curvlinops + eigsh") and seconds[method][0] > 2 * fastest


def profile(name: str) -> None:
    """Print where sharpscope's time goes: products over the whole data, over subsets, the rest."""
    model, x, y = trained(name)
    spent: dict[str, list[float]] = {}
    call = CurvatureProducts.__call__

    def timed(self: CurvatureProducts, block: Tensor) -> Tensor:
        kind = f"{int(self.obj.n_samples)} samples, {'graph built' if not self.kept_bytes else 'graph kept'}"
        began = time.perf_counter()
        out = call(self, block)
        spent.setdefault(kind, []).append(
            (time.perf_counter() - began) / (1 if block.ndim == 1 else len(block))
        )
        return out

    CurvatureProducts.__call__ = timed  # type: ignore[method-assign]
    obj = Objective(model, cross_entropy, (x, y))
    began = time.perf_counter()
    found = top_eigenvalues(obj, tol=TARGET)
    total = time.perf_counter() - began
    CurvatureProducts.__call__ = call  # type: ignore[method-assign]
    print(f"\n{name}: {total:.2f} s, {found.products} full products, chunks of {obj.chunk_size}")
    for kind, times in spent.items():
        print(f"  {kind}: {len(times)} calls, {statistics.median(times):.3f} s a vector, {sum(times):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=", ".join(PROBLEMS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="where sharpscope's own time goes, no peers")
    options = parser.parse_args()
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"no problem is called {', '.join(sorted(unknown))}; choose from {', '.join(PROBLEMS)}")
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in options.problems or PROBLEMS:
        profile(name) if options.profile else compare(name, options.repeats)


if __name__ == "__main__":
    main()
