"""Tables as a finished study would hand them over, without training anything."""

from itertools import product

import numpy as np
import pandas as pd

AXES = ["optimizer", "lr", "batch_size"]

INFO = {
    "lambda_max": {
        "title": "Largest Hessian eigenvalue",
        "symbol": "λ_max",
        "definition": "The largest algebraic eigenvalue of the Hessian of the training loss.",
        "unit": "",
    },
    "trace": {"title": "Hessian trace", "symbol": "tr H", "definition": "The sum of all eigenvalues."},
    "frobenius": {"title": "Frobenius norm of the Hessian", "symbol": "‖H‖_F", "definition": "√ tr H²."},
    "average_direction": {
        "title": "Average-direction sharpness",
        "symbol": "S_avg",
        "definition": "E over directions of L(θ + ε g/‖g‖) − L(θ), ε = 5.",
    },
    "worst_case": {
        "title": "Adaptive worst-case sharpness",
        "symbol": "S_max",
        "definition": "E over batches of the largest rise of the batch's loss within |δ| ≤ ρ|w|.",
    },
    "lambda_min": {
        "title": "Smallest Hessian eigenvalue",
        "symbol": "λ_min",
        "definition": "The smallest algebraic eigenvalue; negative at a saddle.",
    },
}


def study(rates=(0.01, 0.03, 0.1, 0.3), batches=(16, 128), seeds=3, epochs=25, diverged=True, names=None):
    """Return runs, measures, history; the rank of test loss follows training loss and, weakly, sharpness."""
    draw = np.random.default_rng(7)
    names = names or {}
    runs, measures, history = [], [], []
    for optimizer, lr, batch, seed in product(("sgd", "adagrad"), rates, batches, range(seeds)):
        run_id = f"{len(runs):016x}"
        speed = lr / np.sqrt(batch) * (3 if optimizer == "adagrad" else 1)
        bad = diverged and optimizer == "sgd" and lr == rates[-1] and batch == batches[0] and seed == 0
        final = 0.02 + 1.6 * np.exp(-9 * speed**0.4) * np.exp(0.15 * draw.normal())
        floor = 0.25 + 0.4 * final + 0.03 * draw.normal()
        length = 4 if bad else epochs
        for epoch in range(1, length + 1):
            train = 2.3 * np.exp(-epoch / 4) * np.exp(0.05 * draw.normal()) + final
            train = np.nan if bad and epoch == length else train
            test = train + (floor - final) * (1 - np.exp(-epoch / 6)) + 0.01 * draw.normal()
            accuracy = float(np.clip(1 - 0.35 * test + 0.01 * draw.normal(), 0, 1))
            history.append(
                {
                    "run_id": run_id,
                    "epoch": epoch,
                    "lr": lr,
                    "epoch_loss": train * 1.05,
                    "epoch_accuracy": accuracy,
                    "train_loss": train,
                    "train_accuracy": accuracy,
                    "validation_loss": np.nan,
                    "validation_accuracy": np.nan,
                    "test_loss": test,
                    "test_accuracy": accuracy,
                    "seconds": 0.1,
                }
            )
        last = history[-1]
        nan = float("nan")
        runs.append(
            {
                "run_id": run_id,
                "configuration": f"{optimizer}-{lr}-{batch}",
                "status": "diverged" if bad else "finished",
                "stop_reason": "the loss became NaN" if bad else "reached 25 epochs",
                "epochs": length,
                "parameters": 26122,
                "data": "digits",
                "model": "mlp",
                "optimizer": names.get("optimizer", {}).get(optimizer, optimizer),
                "lr": lr,
                "batch_size": batch,
                "seed": seed,
                "train_loss": last["train_loss"],
                "train_accuracy": last["train_accuracy"],
                "validation_loss": nan,
                "validation_accuracy": nan,
                "test_loss": last["test_loss"],
                "test_accuracy": last["test_accuracy"],
                "gap": last["test_loss"] - last["train_loss"],
            }
        )
        if bad:
            continue
        sharp = 4 / speed**0.7 * np.exp(0.25 * draw.normal())
        values = {
            "lambda_max": sharp,
            "trace": 9 * sharp * np.exp(0.1 * draw.normal()),
            "frobenius": 1.4 * sharp * np.exp(0.05 * draw.normal()),
            "average_direction": 0.02 + 0.4 * last["test_loss"] + 0.02 * draw.normal(),
            "worst_case": 0.4 + 0.05 * draw.normal(),
            "lambda_min": -0.02 * sharp + 0.01 * draw.normal(),
        }
        for measure, value in values.items():
            random = measure in ("trace", "average_direction", "worst_case")
            value = nan if measure == "worst_case" and len(runs) == 9 else value
            stderr = 0.02 * abs(value) if random else nan
            measures.append(
                {
                    "run_id": run_id,
                    "measure": names.get(measure, measure),
                    "value": value,
                    "stderr": stderr,
                    "low": value - 2 * stderr,
                    "high": value + 2 * stderr,
                    "converged": not (measure == "lambda_max" and len(runs) in (5, 6)),
                    "gradients": 0,
                    "products": 8 if measure == "lambda_max" else 0,
                    "losses": 50 if random else 0,
                    "protocol": '{"seed": 0}',
                    "fingerprint": "f" * 16,
                }
            )
    return pd.DataFrame(runs), pd.DataFrame(measures), pd.DataFrame(history)
