"""``sharpscope plan`` from an assumed noise; from earlier runs in tests/studies/test_looks.py, which has some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpscope.analysis.claims.power import chance_decided, spread_from_noise
from sharpscope.studies import load_study
from sharpscope.studies.forecast import forecast
from studies.test_looks import STUDY


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "until.toml").write_text(STUDY)
    return tmp_path / "until.toml"


def test_from_an_assumed_noise_each_part_of_the_grid_counts(study: Path) -> None:
    found = forecast(load_study(study), [2, 6], noise={"train_loss": 0.3}, effects={"clear": 0.5})
    spread = spread_from_noise(0.3, [-3.0, -0.523])  # two rates: their distance cancels
    assert found.table["chance"].tolist() == pytest.approx([chance_decided(0.5, spread, k) for k in (2, 6)])
    assert found.runs == {2: 4, 6: 12}
    hours = [found.core_hours[k] for k in (2, 6)]
    assert hours[0] is not None
    assert 0 < hours[0] < 0.1
    assert hours[1] == pytest.approx(3 * hours[0])


def test_a_paper_from_noise_says_what_it_cannot_tell(cli) -> None:
    code, out, err = cli(
        "plan", "kaur2022/fig1", "--scale", "smoke", "--noise", "test_accuracy=0.01", "--json"
    )
    assert code == 0, err
    claims = {claim["id"]: claim for claim in json.loads(out)[0]["claims"]}
    assert claims["K1"]["note"] == ""
    assert claims["K1"]["needed"] > 3
    assert claims["K2"]["chance"] == dict.fromkeys(claims["K1"]["chance"])  # null: nothing is known of λ_max
    assert "--noise lambda_max=0.01" in claims["K2"]["note"]
    code, out, _ = cli("plan", "hammoud2023/H3", "--scale", "smoke", "--noise", "0.01")
    assert code == 0
    assert "does not follow from the noise of a run" in out


def test_of_several_experiments_those_without_claims_or_more_seeds_are_left_out(cli) -> None:
    call = ["plan", "adjudication", "--scale", "smoke", "--noise", "0.1", "--json"]
    code, out, err = cli(*call)
    assert code == 0, err
    assert [one["study"].partition("/")[2] for one in json.loads(out)] == [
        "pool",
        "pool-wide",
        "convolution-wide",
        "text-wide",
    ]
    assert "left out: adjudication, line" in err
    assert "adjudication/convolution has no claims to be decided" in err
    code, out, err = cli(*call, "--seeds", "4")
    assert [one["study"] for one in json.loads(out)] == ["adjudication/pool"]
    assert "seeds cannot be added where settings are drawn" in err


def test_bad_arguments_are_refused(cli, study: Path) -> None:
    for arguments, words in (
        ([], "there are no earlier runs of until and no noise is assumed"),
        (["--seeds", "3,x", "--noise", "1"], "--seeds must be whole numbers"),
        (["--seeds", "0", "--noise", "1"], "--seeds must be whole numbers"),
        (["--looks", "5,3", "--noise", "1"], "looks are numbers of seeds that rise"),
        (["--looks", "3,5", "--seeds", "3"], "exclude each other"),
        (["--noise", "train_loss=nan"], "--noise must be a positive number"),
        (["--noise", "a=b=-1"], "--noise must be a positive number"),
        (["--effect", "1"], "--effect belongs to --noise"),
        (["--store", "nowhere"], "nowhere"),
    ):
        code, out, err = cli("plan", study, *arguments)
        assert (code, out) == (2, ""), arguments
        assert words in err
        assert err.count("\n") == 1
    study.write_text(STUDY.partition("[[claims]]")[0])
    assert "has no claims to be decided" in cli("plan", study, "--noise", "1")[2]
