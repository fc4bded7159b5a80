"""Study files from someone else import nothing until they are run, and then only what may be a factory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from trust.marks import STUDY, untouched


def test_listing_a_study_imports_nothing_and_running_it_says_so_first(cli, folder: Path) -> None:
    Path("received.toml").write_text(STUDY.format(model="evil:make", options=""))
    for arguments in (("studies", "received.toml"), ("studies", "received.toml", "--json")):
        assert cli(*arguments)[0] == 0
        assert untouched(folder)
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert err.startswith("importing the module evil for the model evil:make, which runs its code\n")
    assert "must return a torch.nn.Module" in err


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('optimizer = { name = "sgd"', 'optimizer = { name = "evil:make"'),
        ("batch_size = 64", 'batch_size = 64\nloss = "evil:make"'),
    ],
)
def test_optimizers_and_losses_are_trusted_as_models_are(cli, folder: Path, written: str, named: str) -> None:
    plain = STUDY.format(model="mlp", options="hidden = [4]")
    assert written in plain
    Path("received.toml").write_text(plain.replace(written, named))
    for arguments in (("studies", "received.toml"), ("studies", "received.toml", "--json")):
        assert cli(*arguments)[0] == 0
        assert untouched(folder)
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert err.startswith("importing the module evil for the ")
    Path("received.toml").write_text(plain.replace(written, named.replace("evil:make", "os:system")))
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert "os belongs to Python" in err


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("os:system", 'command = "touch called"', "os belongs to Python"),
        ("subprocess:call", 'args = "touch called"', "subprocess belongs to Python"),
        ("builtins:exec", "", "builtins belongs to Python"),
        ("posix:system", 'command = "touch called"', "posix belongs to Python"),
        ("torch.hub:load", 'repo_or_dir = "x"', "torch is a library"),
        ("torch.serialization:load", 'f = "x"', "torch is a library"),
        ("pandas:read_pickle", 'filepath_or_buffer = "x"', "pandas is a library"),
        ("pandas:DataFrame", "", "must be a subclass of torch.nn"),
        ("evil:system", 'command = "touch called"', "must be a function or class"),
        ("evil:pathlib", "", "must be a function or class"),
        ("evil:NoModule", "", "must be a subclass of torch.nn"),
    ],
)
def test_what_is_no_model_factory_is_never_called(
    cli, folder: Path, name: str, options: str, sentence: str
) -> None:
    Path("received.toml").write_text(STUDY.format(model=name, options=options))
    assert cli("studies", "received.toml")[0] == 0
    assert untouched(folder)
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert sentence in err
    assert not (folder / "called").exists()


def test_a_study_file_of_a_factory_that_is_typed_runs(cli, folder: Path) -> None:
    Path("mine.py").write_text(
        "import torch\ndef net(width):\n    return torch.nn.Sequential("
        "torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.Linear(width, 10))\n"
    )
    code, out, err = cli(
        "measure",
        "mine:net",
        "--data",
        "digits",
        "--option",
        "width=4",
        "--measures",
        "gradient_norm",
        "--json",
    )
    assert code == 0, err
    assert "importing the module mine for the model mine:net" in err
    json.loads(out)
    sys.modules.pop("mine")
