"""Arguments made at random for every command: no traceback, and one sentence where they are refused."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path

import pytest
import typer.main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sharpscope.cli.app import app
from sharpscope.cli.detach import FOLDER
from sharpscope.studies.plan.catalogue import every_file
from sharpscope.sweep import Summary
from small_store import small_store

EXAMPLES = int(os.environ.get("SHARPSCOPE_FUZZ", "60")) // 10  # of each command
PARSER = typer.main.get_command(app)
COMMANDS = PARSER.commands  # type: ignore[attr-defined]
NUMBERS = ["0", "1", "2", "3", "-1", "1e9", "nan", "inf", "0.5", "", "x", "99999999999999999999999"]
WORDS = [
    *(
        "",
        " ",
        "all",
        "x",
        "λ",
        "\x1b[2J",
        "../..",
        "lambda_max",
        "gradient_norm",
        "trace=1",
        "lambda_max.tol=1e-2",
    ),
    *(
        "lambda_max.tol=nan",
        "worst_case.radius=-1",
        "a.b=[[[[",
        "=",
        "--",
        "-1",
        "cpu",
        "tpu",
        "cuda",
        "cuda:7",
    ),
    *(
        "digits",
        "cifar11",
        "mlp",
        "os:system",
        "nowhere:f",
        "hidden=[3]",
        "hidden=3",
        "eval",
        "train",
        "test",
        "gap",
    ),
    *(
        "kaur2022/fig1",
        "quickstart",
        "fig9",
        "smoke",
        "own",
        "local",
        "slurm",
        "cloud",
        "run_id",
        "train_loss",
        "csv",
    ),
    *("parquet", "surface,audit", "1:00:00", "account=me"),
]
PATHS = [
    "STORE",
    "CHECKPOINT",
    "STUDY",
    "FILE",
    "FOLDER",
    "ID",
    "FILE/below",
    "nowhere",
    "/dev/null",
    "/",
    "n" * 300,
]


@st.composite
def arguments(draw: st.DrawFn, name: str) -> list[str]:
    """Return arguments of a command: its own options with odd values, and now and then one that it does not have."""
    value = st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.sampled_from(PATHS)
    given: list[str] = []
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            ours = st.sampled_from(PATHS[:3])
            one = ours | value if draw(st.booleans()) else ours
            most = 2 if parameter.nargs < 0 else 1
            given += draw(st.lists(one, min_size=int(parameter.required), max_size=most))
        elif parameter.name not in ("help", "version") and draw(st.integers(0, 3)) == 0:
            given += (
                [draw(st.sampled_from(parameter.opts))]
                if parameter.is_flag
                else [parameter.opts[0], draw(value)]
            )
    if draw(st.integers(0, 9)) == 0:
        given.append(draw(st.sampled_from(["--unknown", "-x", "extra", "--"])))
    always = {"studies": ["--no-cost"], "measure": ["--samples", "3"], "examine": ["--samples", "3"]}
    return [*given, *always.get(name, [])]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    detached = small_store(folder).root / FOLDER
    detached.mkdir()
    (detached / "elsewhere-1.log").write_text("2 runs, 2 measures: 4 done\n\x1b[2J\nexit status 0\n")
    return folder


def files(folder: Path) -> set[tuple[str, int, int]]:
    """Return the path, size and time of every file and folder in a folder."""
    return {
        (str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_arguments_end_in_a_traceback(
    name: str, made: Path, cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sharpscope.studies.run_plan", lambda *a, **k: Summary(0, 0, 0, 0, False, 0.0))
    monkeypatch.setattr("sharpscope.cli.detach.detach", lambda *a: (1, Path("log")))
    monkeypatch.setenv("SHARPSCOPE_CACHE", str(tmp_path / "cache"))
    # what every call would work out anew, which takes longer than all the rest of it
    monkeypatch.setattr("sharpscope.cli.app.app", PARSER)
    monkeypatch.setattr("sharpscope.studies.plan.catalogue.every_file", functools.cache(every_file))
    folder, intact = tmp_path / "here", None

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(given=arguments(name))
    def check(given: list[str]) -> None:
        nonlocal intact
        if intact is None or files(folder) != intact:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(made, folder)
            (folder / "file").write_text("no table\n")
            intact = files(folder)
        monkeypatch.chdir(folder)
        run = next((folder / "store" / "runs").iterdir())
        named = {"STORE": "store", "CHECKPOINT": str(run / "checkpoint.safetensors"), "STUDY": "two.toml"}
        named |= {"FILE": "file", "FOLDER": ".", "FILE/below": "file/below", "ID": run.name}
        given = [named.get(one, one) for one in given]
        code, out, err = cli(name, *given)
        assert code in (0, 1, 2), (given, err)
        assert "Traceback" not in err
        if code == 2:
            assert "rror: " in err.splitlines()[-1], (given, err)
            assert "\x1b" not in err
        elif code == 0 and "--json" in given and "--help" not in given:
            json.loads(out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))

    check()
