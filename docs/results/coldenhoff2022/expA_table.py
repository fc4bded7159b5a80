"""Claims C1 and C2 of coldenhoff2022's experiment A from a store of its runs, as Markdown.

sharpscope run docs/results/coldenhoff2022/expA-laptop.toml --store STORE
python docs/results/coldenhoff2022/expA_table.py STORE [--all-test-images DATA_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from scipy import stats

from sharpscope.data import load
from sharpscope.models import build
from sharpscope.studies.results.tables import collect
from sharpscope.sweep import Store
from sharpscope.training import RunConfig, evaluate, load_checkpoint


def moments(history: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and optimizer: test accuracy and training loss after half the epochs and after all."""
    table = history.merge(runs[["run_id", "optimizer", "seed"]], on="run_id")
    last = int(table["epoch"].max())
    chosen = table[table["epoch"].isin([last // 2, last])]
    wide = chosen.pivot(index="seed", columns=["optimizer", "epoch"], values=["test_accuracy", "train_loss"])
    wanted = [
        (v, o, e) for v in ("test_accuracy", "train_loss") for o in ("sgd", "sam") for e in (last // 2, last)
    ]
    return wide.reindex(columns=pd.MultiIndex.from_tuples(wanted))  # NaN for runs that are not done


def on_all_test_images(store: Path, runs: pd.DataFrame, data_dir: str) -> pd.DataFrame:
    """Test accuracy of the final weights on the whole test set: seeds by optimizers."""
    table = pd.DataFrame(index=sorted(set(runs["seed"])), columns=["sgd", "sam"], dtype=float)
    for run in runs.itertuples():
        folder = store / "runs" / str(run.run_id)
        config = RunConfig.model_validate_json((folder / "config.json").read_text())
        everything = config.data.model_copy(update={"test_samples": None})
        dataset = load(everything, data_dir=data_dir)
        model = build(config.model, dataset, 0)
        load_checkpoint(folder / "checkpoint.safetensors", model)
        table.loc[run.seed, run.optimizer] = evaluate(model, dataset.test, "cross_entropy")[1]
    return table


def verdict(name: str, sam: pd.Series, sgd: pd.Series) -> str:
    """The mean difference in percentage points with a 95 % t-interval over seeds, and the verdict it gives."""
    difference = 100 * (sam - sgd).dropna()
    n, mean = len(difference), difference.mean()
    half = float(stats.t.ppf(0.975, n - 1)) * difference.std() / n**0.5 if n > 1 else float("nan")
    wins = int((difference > 0).sum())
    if mean - half > 0:
        word = "supported"
    elif mean + half < 0:
        word = "contradicted"
    else:
        word = "inconclusive"
    return (
        f"{name}: {mean:+.2f} points, 95 % interval [{mean - half:+.2f}, {mean + half:+.2f}] over {n} seeds, "
        f"SAM ahead in {wins} of {n}: **{word}** at this scale."
    )


def _moment(row: pd.Series) -> str:
    return f"{100 * row['test_accuracy']:.1f} % (epoch {row['epoch']:.0f}, training loss {row['train_loss']:.3f})"


def main(store: Path, data_dir: str | None) -> None:
    """Print the tables and the verdicts."""
    tables = collect(Store(store))
    found = moments(tables.history, tables.runs)
    last = max(epoch for _, _, epoch in found.columns)
    half = last // 2
    print(f"| seed | SGD, {last} epochs | SAM, {last} epochs | SAM, {half} epochs |\n|---|---|---|---|")
    which = [("sgd", last), ("sam", last), ("sam", half)]
    for seed, row in found.iterrows():
        cells = [
            f"{100 * row['test_accuracy', o, e]:.1f} % (training loss {row['train_loss', o, e]:.3f})"
            for o, e in which
        ]
        print(f"| {seed} | {' | '.join(cells)} |")
    accuracy = found["test_accuracy"]
    print("\n" + verdict(f"C1, equal epochs ({last})", accuracy["sam", last], accuracy["sgd", last]))
    print(
        "\n"
        + verdict(f"C2, equal cost (SAM {half}, SGD {last})", accuracy["sam", half], accuracy["sgd", last])
    )
    print("\nSGD at other moments:\n")
    print(f"| seed | where its training loss is SAM's after {half} epochs | its best epoch |\n|---|---|---|")
    history = tables.history.merge(tables.runs[["run_id", "optimizer", "seed"]], on="run_id")
    matched, best = {}, {}
    for seed, row in found.iterrows():
        sgd = history[(history["optimizer"] == "sgd") & (history["seed"] == seed)]
        near = sgd.loc[(sgd["train_loss"] - row["train_loss", "sam", half]).abs().idxmin()]
        top = sgd.loc[sgd["test_accuracy"].idxmax()]
        matched[seed], best[seed] = near["test_accuracy"], top["test_accuracy"]
        print(f"| {seed} | {_moment(near)} | {_moment(top)} |")
    sam = accuracy["sam", half]
    print("\n" + verdict(f"Control, equal training loss (SAM {half})", sam, pd.Series(matched)))
    print("\n" + verdict(f"Control, SGD's best epoch (SAM {half})", sam, pd.Series(best)))
    if data_dir is not None:
        final = on_all_test_images(store, tables.runs, data_dir)
        print(
            f"\n| seed | SGD, {last} epochs, all test images | SAM, {last} epochs, all test images |\n|---|---|---|"
        )
        for seed, row in final.iterrows():
            print(f"| {seed} | {100 * row['sgd']:.2f} % | {100 * row['sam']:.2f} % |")
        print("\n" + verdict(f"C1, equal epochs ({last}), all test images", final["sam"], final["sgd"]))
    print("\n" + "\n".join(f"- {note}" for note in tables.notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3] if "--all-test-images" in sys.argv else None)
