"""The papers' files: everything in them at every scale, and what the smoke scale promises."""

from __future__ import annotations

import re

import pytest

from sharpscope.studies import Plan, load_studies, make_joint_plan, papers

EXPERIMENTS = {
    "adjudication": ["pool", "convolution", "text", "pool-wide", "convolution-wide", "text-wide"],
    "coldenhoff2022": ["expA", "expB", "expC"],
    "hammoud2023": ["H0", "H1", "H1_as_coded", "H2", "H2_as_coded", "H3", "H3_as_coded"],
    "jastrzebski2018": ["fig1", "fig1-law", "fig2", "fig3", "fig4-resnet", "fig4-vgg"],
    "kaur2022": [
        *("fig1", "fig3", "fig4", "fig6", "fig8", "fig10", "fig12", "fig13", "fig14", "fig15", "appendix"),
    ],
    "patriarca2024": ["fig1a", "fig1b"],
}
CLAIMS = {
    "coldenhoff2022": {f"C{i}" for i in range(1, 11)},
    "hammoud2023": {f"H{i}" for i in range(4)},
    "jastrzebski2018": {f"J{i}" for i in range(1, 9)},
    "kaur2022": {f"K{i}" for i in range(1, 19)},
    "patriarca2024": {f"P{i}" for i in range(1, 6)},
}


@pytest.fixture(scope="module")
def plans() -> dict[tuple[str, str], tuple[Plan, ...]]:
    return {
        (name, scale): make_joint_plan(load_studies(name, scale)).plans
        for name in papers()
        for scale in ("smoke", "laptop", "paper")
    }


def test_every_experiment_and_every_claim_of_the_papers_is_there(plans) -> None:
    assert sorted(EXPERIMENTS) == papers()
    for (name, _), made in plans.items():
        assert [p.study.key for p in made] == [f"{name}/{e}" for e in EXPERIMENTS[name]]
        ids = {claim["id"] for p in made for claim in p.study.config.claims}
        assert CLAIMS.get(name, set()) <= ids
        assert all(p.study.config.figures for p in made)
        leagues = {
            "adjudication/convolution",
            "adjudication/text",
        }  # their claims are asked of many drawn settings
        assert {p.study.key for p in made if not p.study.config.claims} == leagues & {
            p.study.key for p in made
        }


@pytest.mark.parametrize(
    "figure", [f"kaur2022/fig{i}" for i in range(1, 16)] + ["kaur2022/K16", "jastrzebski2018/fig4"]
)
def test_every_figure_has_an_experiment(figure: str) -> None:
    assert load_studies(figure, "paper")


def test_smoke_needs_no_files_and_more_than_one_seed(plans) -> None:
    for (_, scale), made in plans.items():
        for plan in made if scale == "smoke" else ():
            used = {run.config.data.name for run in plan.runs}
            assert used in ({"digits"}, {"python_manual"}), plan.study.key
            assert len({run.config.seed for run in plan.runs}) >= 2, plan.study.key


def test_below_the_papers_scale_every_experiment_says_what_is_smaller(plans) -> None:
    for (_, scale), made in plans.items():
        for plan in made if scale != "paper" else ():
            note = plan.study.config.note
            assert note.startswith(f"{scale.capitalize()}:"), plan.study.key


@pytest.mark.parametrize(
    ("name", "experiment", "runs"),
    [
        ("patriarca2024", "fig1a", 2 * 12 * 6),
        ("patriarca2024", "fig1b", 2 * 7 * 6),
        ("jastrzebski2018", "fig1", 5 * 6 * 3),
        ("jastrzebski2018", "fig4-resnet", 6 * 3),
        ("kaur2022", "fig1", 6 * 2 * 5),
        ("kaur2022", "fig6", 5 * 2 * 2 * 4),
        ("hammoud2023", "H2", 50),
        ("coldenhoff2022", "expA", 6),
        ("adjudication", "pool", 9 * 4 * 5),
    ],
)
def test_the_papers_scale_is_its_grid(plans, name: str, experiment: str, runs: int) -> None:
    (plan,) = (p for p in plans[name, "paper"] if p.study.key == f"{name}/{experiment}")
    assert len(plan.runs) == runs


def test_the_papers_protocols(plans) -> None:
    by_key = {p.study.key: p for p in (p for (_, s), made in plans.items() if s == "paper" for p in made)}
    spec = by_key["patriarca2024/fig1a"].measures[0].spec
    assert (spec["radius"], spec["samples"], spec["antithetic"]) == (5.0, 294, False)
    first = by_key["patriarca2024/fig1a"].runs[0].config
    assert (first.stop.plateau.threshold, first.stop.plateau.patience, first.initial_weights) == (
        1e-4,
        5,
        "per_run",
    )
    kaur = by_key["kaur2022/fig1"]
    assert all(
        r.config.stop.train_accuracy == 0.99 and r.config.initial_weights == "shared" for r in kaur.runs
    )
    assert kaur.study.config.objective.samples == 5000
    ratios = {r.config.batch_size / r.config.optimizer.lr for r in by_key["kaur2022/fig4"].runs}
    assert sorted(round(ratio) for ratio in ratios) == [4000, 10000, 20000]
    asam = by_key["coldenhoff2022/expC"].runs[-1].config
    assert (asam.optimizer.name, asam.optimizer.options["rho"], asam.data.pixels) == ("asam", 0.5, "unit")
    assert asam.schedule.kind == "cosine"
    reached = by_key["kaur2022/appendix"].measures[0].spec
    assert (reached["batch_size"], reached["norm"], reached["adaptive"]) == (None, "l2", False)


CUTS = {
    "lr": ("rate",),
    "batch_size": ("batch",),
    "rho": ("radi", "ρ"),
    "dropout": ("probabilit",),
    "optimizer": ("optimizer",),
    "base": ("optimizer",),
    "weight_decay": ("optimizer",),
}


def test_every_cap_cut_and_decision_is_said_on_the_experiments_page(plans) -> None:
    decided = {"jastrzebski2018": "initial weights", "kaur2022": "cap on the", "patriarca2024": "eval mode"}
    decided |= {"hammoud2023": "without replacement", "coldenhoff2022": "ρ"}
    for (name, scale), made in plans.items():
        for plan, whole in zip(made, plans[name, "paper"], strict=True):
            said = plan.record()["note"]
            place = f"{plan.study.key} at {scale}: {said}"
            assert decided.get(name, "") in said, place
            if scale == "paper":
                assert "no run lasts more than" in said or name not in ("kaur2022", "patriarca2024"), place
                continue
            caps, before = (sorted({run.config.stop.epochs for run in p.runs}) for p in (plan, whole))
            assert caps == before or str(caps[-1]) in re.sub(r"(?<=\d)\s(?=\d{3})", "", said), place
            for axis in plan.axes if scale == "laptop" else ():
                values, of = ({run.row.get(axis) for run in p.runs} for p in (plan, whole))
                cut = axis != "seed" and len(values) < len(of)
                assert not cut or any(word in said for word in CUTS[axis]), f"{axis}, {place}"
    (fig10,) = (p for p in plans["kaur2022", "laptop"] if p.study.key == "kaur2022/fig10")
    assert "batches of 500, which for runs at a batch of 5 000 is our choice" in " ".join(
        fig10.study.config.description.split()
    )


def test_claims_of_minima_require_trained_networks_or_the_papers_own_rule(plans) -> None:
    required = {
        "patriarca2024": {"stop_reason", "train_loss"},
        "jastrzebski2018": {"train_accuracy"},
        "kaur2022": {"train_accuracy"},
        "hammoud2023": {"train_loss"},
        "coldenhoff2022": {"train_accuracy"},
        "adjudication": {"stop_reason"},
    }
    for (name, scale), made in plans.items():
        learned = {"train_accuracy"} if (name, scale) == ("patriarca2024", "laptop") else set()
        assert all(set(p.study.config.requires or {}) == required[name] | learned for p in made)
