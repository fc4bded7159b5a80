"""Do the errors that `top_eigenvalues` claims hold? Thousands of problems whose spectra are known exactly.

    python benchmarks/certificate.py [--rounds 2] [--threads 1] [--keep FILE]
    SHARPSCOPE_DATA=... python benchmarks/certificate.py --networks

Every problem is L(w) = (1/N) Σ ½ sᵢ (aᵢ·w)², whose Hessian (1/N) Σ sᵢ aᵢ aᵢᵀ and its spectrum are computed in
float64 from the same numbers. Families of spectra have one sample for each direction (N = d = 60 or 300); families of
data have 400, 1 200 or 5 000 samples in 120 directions, enough for a model of the Hessian to be used for every k.
Every family meets every k (1, 2, 5), end, precision and tolerance.

With `--networks` the problems are the Hessians of eight small networks, trained in seconds each: of digits (1 360
parameters) against the whole Hessian in float64, of 6 000 images of Fashion-MNIST (25 818 parameters) against a
search in float64 to 1e-6 at both ends.

Counted by family, over values that said converged: off, further from the truth than the error that was claimed;
beyond, further than the tolerance. Also values that did not converge and calls that did not warn of it, and the
products beside those of scipy's eigsh (ARPACK, its defaults, the same tolerance) where it converges.

With `--keep` every problem's outcome is appended to a file, and the same command goes on with the next one.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import time
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from sharpscope import Objective, top_eigenvalues
from sharpscope.data import load
from sharpscope.errors import NotConvergedWarning

Array = NDArray[np.float64]

SPECTRA = (
    *("pair, gap 0.2 %", "pair, gap 0.5 %", "pair, gap 1 %", "pair, gap 3 %", "triple", "eight within 1 %"),
    *("uniform", "indefinite", "three at -1000", "geometric", "semicircle", "network-like"),
    *("pair, gap 1e-6 to 1e-2", "sixfold", "dense edge", "negative, nine decades", "0.001 beside -100"),
)
DATA = (
    *("uneven lengths", "heavy tails", "one outlier", "two outliers", "three outliers"),
    *("pairs in samples", "sixfold in samples"),
)
NETWORKS = ("networks of digits", "networks of Fashion-MNIST")
TRAINED = tuple(itertools.product((nn.ReLU, nn.Tanh), ("cross-entropy", "squares")))
ENDS = ("largest", "smallest", "magnitude", "both")
DIRECTIONS = 120
"""Of the families of data: above the size up to which a search takes no model, 84 for five eigenvalues."""
MOST_PRODUCTS = 1000
EIGSH_ENDS = {"largest": ("LA",), "smallest": ("SA",), "magnitude": ("LM",), "both": ("LA", "SA")}


@dataclass(frozen=True)
class Problem:
    """One question: a family, its size (d directions, or N samples), and what is asked."""

    family: str
    size: int
    k: int
    which: str
    precision: str
    tol: float
    round: int

    @property
    def seed(self) -> int:
        return zlib.crc32(repr((self.family, self.size, self.k, self.tol, self.round)).encode())


def problems(rounds: int) -> Iterator[Problem]:
    """Yield all problems, a round after the other."""
    asked = list(itertools.product((1, 2, 5), ENDS, ("float64", "float32"), (1e-2, 1e-3, 1e-4)))
    sized = [*itertools.product(SPECTRA, (60, 300)), *itertools.product(DATA, (400, 1200, 5000))]
    for number, (family, size), what in itertools.product(range(rounds), sized, asked):
        yield Problem(family, size, *what, number)


def spectrum(family: str, d: int, rng: np.random.Generator) -> Array:
    """Return the eigenvalues (d,) of a family."""
    bulk = rng.uniform(0, 0.9, d)
    if family == "pair, gap 1e-6 to 1e-2":
        return np.concatenate([[1.0, 1.0 - 10 ** rng.uniform(-6, -2)], bulk[2:]])
    if family == "sixfold":
        return np.concatenate([np.ones(6), bulk[6:]])
    if family == "dense edge":
        return 1 - (np.arange(d) / d) ** 2
    if family == "negative, nine decades":
        return -np.geomspace(1e-9, 1.0, d)
    if family == "0.001 beside -100":
        return np.concatenate([[1e-3, -100.0], rng.uniform(-1, 0, d - 2)])
    if family.startswith("pair"):
        gap = float(family.split()[-2]) / 100
        return np.concatenate([[1.0, 1.0 - gap], bulk[2:]])
    if family == "triple":
        return np.concatenate([[1.0, 0.996, 0.992], bulk[3:]])
    if family == "eight within 1 %":
        return np.concatenate([rng.uniform(0.99, 1.0, 8), bulk[8:]])
    if family == "uniform":
        return rng.uniform(0, 1, d)
    if family == "indefinite":
        return rng.uniform(-1, 1, d)
    if family == "three at -1000":
        return np.concatenate([[-1000.0, -1000.0, -1000.0, 1.0], rng.uniform(-0.9, 0.9, d - 4)])
    if family == "geometric":
        return 0.8 ** np.arange(d)
    if family == "semicircle":
        g = rng.normal(size=(d, d))
        return np.linalg.eigvalsh((g + g.T) / math.sqrt(8 * d))
    return np.concatenate([1 + 2 * rng.gamma(1.0, 1.0, 10), rng.normal(0, 0.05, d - 10)])


def samples(problem: Problem) -> tuple[Array, Array]:
    """Return the vectors aᵢ (N, d) and signs sᵢ (N, 1) of a problem."""
    rng = np.random.default_rng(problem.seed)
    if problem.family in SPECTRA:
        values = spectrum(problem.family, problem.size, rng)
        q, _ = np.linalg.qr(rng.normal(size=(problem.size, problem.size)))
        return np.sqrt(problem.size * np.abs(values))[:, None] * q.T, np.sign(values)[:, None]
    d, n = DIRECTIONS, problem.size
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    scales = np.sqrt(rng.gamma(0.5, 1.0, d) + 1e-3)
    signs = rng.choice([-0.3, 1.0, 1.0], size=(n, 1))
    if problem.family in ("pairs in samples", "sixfold in samples"):
        top = np.array([1.0, 1 - 10 ** rng.uniform(-5, -2)] if "pairs" in problem.family else [1.0] * 6)
        scales = np.sqrt(np.concatenate([top, rng.uniform(0, 0.8, d - len(top))]))
        white = np.linalg.qr(rng.normal(size=(n, d)))[0] * math.sqrt(n)  # whose Hessian is exactly diagonal
        return (white * scales) @ q.T, np.ones((n, 1))
    if problem.family == "uneven lengths":
        a = rng.normal(size=(n, d)) * scales * rng.uniform(0.7, 1.3, size=(n, 1))
    elif problem.family == "heavy tails":
        a = rng.standard_t(float(rng.choice([1.6, 2.5, 4.0])), size=(n, d)) * scales
    else:
        a = rng.normal(size=(n, d)) * scales
        count = {"one": 1, "two": 2, "three": 3}[problem.family.split()[0]]
        top = float(np.linalg.eigvalsh((a * signs).T @ a / n)[-1])
        far = rng.normal(size=(count, d))
        far /= np.linalg.norm(far, axis=1, keepdims=True)
        a[:count] = far * np.sqrt(n * top * rng.uniform(1.0, 3.0, size=(count, 1)))
        signs[:count] = 1.0
    return a @ q.T, signs


def measured(problem: Problem) -> tuple[Objective, Array]:
    """Return the problem's objective and its exact spectrum, ascending; of networks the ends of it."""
    dtype = torch.float64 if problem.precision == "float64" else torch.float32
    if problem.family in NETWORKS:
        model, data, ends = network(problem.family, problem.round, problem.size)
        return Objective(model, LOSSES[TRAINED[problem.round][1]], data, dtype=dtype), ends
    a, signs = samples(problem)
    x, s = torch.as_tensor(a).to(dtype), torch.as_tensor(signs).to(dtype)
    model = nn.Linear(a.shape[1], 1, bias=False).to(dtype)
    obj = Objective(
        model, lambda outputs, targets: (0.5 * targets * outputs.square()).mean(), (x, s), dtype=dtype
    )
    exact, sign = x.double().numpy(), s.double().numpy()
    return obj, np.linalg.eigvalsh((exact * sign).T @ exact / len(exact))


def network_problems() -> Iterator[Problem]:
    """Yield what is asked of the trained networks; ``round`` is the network's number in `TRAINED`."""
    asked = list(itertools.product((1, 3), ENDS, ("float64", "float32"), (1e-2, 1e-3, 1e-4)))
    for family, number, what in itertools.product(NETWORKS, range(len(TRAINED)), asked):
        yield Problem(family, 6000 if "Fashion" in family else 1437, *what, number)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the mean squared distance of outputs from one-hot targets."""
    wanted_outputs = nn.functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return 0.5 * (outputs - wanted_outputs).square().sum(1).mean()


LOSSES = {"cross-entropy": nn.functional.cross_entropy, "squares": squares}


@functools.lru_cache(maxsize=1)
def network(family: str, number: int, size: int) -> tuple[nn.Module, tuple[Tensor, Tensor], Array]:
    """Return a trained network, its data, and its outermost eigenvalues of both ends, ascending."""
    activation, loss = TRAINED[number]
    train = load("fashion_mnist" if "Fashion" in family else "digits").train
    x, y = train.inputs[:size].contiguous(), train.targets[:size]
    torch.manual_seed(number)
    layers = [nn.Linear(x[0].numel(), 32), activation(), nn.Linear(32, 16), activation(), nn.Linear(16, 10)]
    if "digits" in family:  # few enough parameters for the whole Hessian
        layers = [nn.Linear(x[0].numel(), 18), activation(), nn.Linear(18, 10)]
    model = nn.Sequential(nn.Flatten(), *layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5 if "Fashion" in family else 20):
        for some in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            LOSSES[loss](model(x[some]), y[some]).backward()
            optimizer.step()
    obj = Objective(model, LOSSES[loss], (x, y), dtype=torch.float64)
    if "digits" in family:
        hessian = torch.cat([obj.hvp(rows) for rows in torch.eye(obj.size, dtype=torch.float64).split(99)])
        return model, (x, y), np.linalg.eigvalsh(hessian.numpy())
    found = top_eigenvalues(obj, 3, "both", 1e-6, seed=99, max_products=5000)
    assert found.converged.all(), "the reference must converge; raise its max_products"
    return model, (x, y), np.sort(found.values)


def wanted(values: Array, k: int, which: str) -> Array:
    """Return the eigenvalues asked for from a spectrum that is ascending; magnitudes for the magnitude."""
    if which == "magnitude":
        return np.sort(np.abs(values))[::-1][:k]
    top, bottom = values[::-1][:k], values[:k]
    return {"largest": top, "smallest": bottom, "both": np.concatenate([top, bottom])}[which]


def eigsh_products(problem: Problem) -> int | None:
    """Return the products that eigsh takes on the same matrix; None where it does not converge."""
    a, signs = samples(problem)
    matrix = (a * signs).T @ a / len(a)
    count = 0

    def multiply(v: Array) -> Array:
        nonlocal count
        count += 1
        return matrix @ v.reshape(-1)

    operator = LinearOperator(matrix.shape, matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(problem.seed).normal(size=len(matrix))
    try:
        for end in EIGSH_ENDS[problem.which]:
            eigsh(operator, problem.k, which=end, tol=problem.tol, v0=start, return_eigenvectors=False)
    except (ArpackNoConvergence, ArpackError):
        return None
    return count


def outcome(problem: Problem, peer: bool = True, **options: object) -> dict[str, object]:
    """Solve a problem and count what did not hold."""
    obj, values = measured(problem)
    truth = wanted(values, problem.k, problem.which)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = top_eigenvalues(
            obj, problem.k, problem.which, problem.tol, problem.seed, max_products=MOST_PRODUCTS, **options
        )  # type: ignore[arg-type]
    warned = any(issubclass(w.category, NotConvergedWarning) for w in told)
    given = np.abs(found.values) if problem.which == "magnitude" else found.values
    error = np.abs(given - truth)
    good = found.converged
    return {
        **asdict(problem),
        "values": len(given),
        "converged": int(good.sum()),
        "off": int((good & (error > found.error_estimates)).sum()),
        "beyond": int((good & (error > problem.tol * np.abs(truth))).sum()),
        "all_off": int((error > found.error_estimates).sum()),
        "unflagged": int(not good.all() and not warned),
        "products": found.products,
        "confidence": found.confidence,
        "eigsh": eigsh_products(problem) if peer and problem.family not in NETWORKS else None,
        "seconds": time.perf_counter() - began,
    }


def table(rows: list[dict[str, object]]) -> str:
    """Return counts by family, in Markdown."""
    lines = [
        "| family | problems | values converged | off by more than claimed | beyond tol | not converged | unsaid "
        "| products | of eigsh's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    families = [f for f in SPECTRA + DATA + NETWORKS if any(row["family"] == f for row in rows)]
    for family in [*families, "all"]:
        some = [row for row in rows if family in (row["family"], "all")]
        total = {
            name: sum(int(row[name]) for row in some) for name in ("values", "converged", "off", "beyond")
        }
        unsaid = sum(int(row["unflagged"]) for row in some)
        ratios = [float(row["products"]) / float(row["eigsh"]) for row in some if row["eigsh"]]
        ratio = f"{np.median(ratios):.2f}" if ratios else ""
        lines.append(
            f"| {family} | {len(some)} | {total['converged']} | {total['off']} ({_share(total, 'off')}) | "
            f"{total['beyond']} ({_share(total, 'beyond')}) | {total['values'] - total['converged']} | {unsaid} | "
            f"{np.median([float(row['products']) for row in some]):.0f} | {ratio} |"
        )
    return "\n".join(lines)


def _share(total: dict[str, int], name: str) -> str:
    return f"{100 * total[name] / max(total['converged'], 1):.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="append outcomes there, go on from what it holds"
    )
    parser.add_argument("--mode", choices=("certified", "fast"), default="certified")
    parser.add_argument("--networks", action="store_true", help="trained networks instead")
    parser.add_argument("--every", type=int, default=1, help="take every so many problems only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    if options.keep and options.keep.exists():
        rows = [json.loads(line) for line in options.keep.read_text().splitlines()]
    asked = network_problems() if options.networks else problems(options.rounds)
    for problem in itertools.islice(asked, len(rows) * options.every, None, options.every):
        rows.append(outcome(problem, peer=options.mode == "certified", mode=options.mode))
        if options.keep:
            with options.keep.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
