"""Results as a study of a full grid would hand them over, and a claim judged on them."""

from itertools import product

import numpy as np
import pandas as pd

from sharpscope.analysis.claims import Evidence, assess, read_claims


def grid(seeds=4, **axes):
    """One row per seed and setting, training loss and accuracy drawn without regard to the setting."""
    draw = np.random.default_rng(3)
    rows = [
        {"configuration": "-".join(map(str, values)), **dict(zip(axes, values, strict=True)), "seed": seed}
        for values in product(*axes.values())
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows)
    table.insert(0, "run_id", [f"r{i:03}" for i in range(len(table))])
    return table.assign(
        status="finished",
        stop_reason="epochs",
        epochs=20,
        train_loss=0.1 * np.exp(0.1 * draw.normal(size=len(table))),
        train_accuracy=0.99,
    )


def noise(table, scale, seed=0):
    return scale * np.random.default_rng(seed).normal(size=len(table))


def judge(results, history=None, landscapes=None, tracks=None, **claim):
    """The verdict on one claim."""
    (claim,) = read_claims([{"id": "X", "statement": "It is so.", **claim}])
    given = {"history": history, "landscapes": landscapes, "tracks": tracks}
    (verdict,) = assess(
        [claim], Evidence(results, **{k: v for k, v in given.items() if v is not None}), "smoke"
    )
    return verdict
