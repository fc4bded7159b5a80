"""Loss evaluations that antithetic pairs save: plain and antithetic draws of average-direction sharpness, compared.

    SHARPSCOPE_DATA=... python benchmarks/average_direction.py [--samples 2000] [--pairs 300]

Takes the MLP 784-512-256-128-10 of benchmarks/problems.py, trained on Fashion-MNIST (SGD, rate 0.05, batches of 100,
8 epochs), and draws the same directions both ways. At equal interval width the evaluations needed are in the ratio of
the variances per evaluation, Var(single) against 2 Var(pair mean); the ratio's 95 % interval is bootstrapped over
directions. Also prints the evaluations needed for an interval a tenth of the value wide.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from problems import trained
from sharpscope import Objective
from sharpscope.measures.average_direction import unit_direction


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--samples", type=int, default=2000, help="training images the loss is taken over")
    options.add_argument("--pairs", type=int, default=300)
    chosen = options.parse_args()
    model, inputs, targets = trained("mlp")
    obj = Objective(
        model, torch.nn.functional.cross_entropy, (inputs[: chosen.samples], targets[: chosen.samples])
    )
    print(f"{obj.size:,} parameters; loss over {chosen.samples} training images, {chosen.pairs} pairs")
    centre, base = obj.flat(), obj.loss()
    random = np.random.default_rng(0)
    for radius in (5.0, 1.0):
        began = time.perf_counter()
        both = np.array(
            [
                [obj.loss(centre + sign * radius * unit_direction(obj, 0, i)) - base for sign in (1, -1)]
                for i in range(chosen.pairs)
            ]
        )

        def ratio(rows: np.ndarray) -> float:
            """Plain over antithetic variance per evaluation; a pair counts as two."""
            return float(rows[:, 0].var(ddof=1) / (2 * rows.mean(1).var(ddof=1)))

        draws = [ratio(both[random.integers(len(both), size=len(both))]) for _ in range(2000)]
        low, high = np.percentile(draws, [2.5, 97.5])
        value = both.mean()
        needed = [
            (2 * 1.96 * sd / (0.1 * value)) ** 2
            for sd in (both[:, 0].std(ddof=1), 2**0.5 * both.mean(1).std(ddof=1))
        ]
        print(
            f"radius {radius:g}: sharpness {value:.5f}; antithetic needs {ratio(both):.1f} times fewer evaluations "
            f"(95 % interval {low:.1f} to {high:.1f}); for an interval a tenth of the value wide: plain "
            f"{needed[0]:,.0f}, antithetic {needed[1]:,.0f}  [{time.perf_counter() - began:.0f} s]"
        )


if __name__ == "__main__":
    main()
