"""A model and data of the user's own in one command, and what goes wrong on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from sharpscope import Objective

SOURCE = """
import os
import signal

import numpy as np
import torch
from torch import nn

print("a word on the way")

def cnn(classes=3):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, classes))

def interrupted():
    # during the thirtieth evaluation Ctrl-C is pressed
    model, evaluations = cnn(), []
    def press(*_):
        evaluations.append(1)
        if len(evaluations) == 30:
            os.kill(os.getpid(), signal.SIGINT)
    model.register_forward_hook(press)
    return model

def table():
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))

def pairs(part):
    torch.manual_seed(len(part))
    return torch.randn(6, 1, 4, 4), torch.randint(3, (6,))

def arrays():
    return np.ones((3, 1, 4, 4)), np.array([0, 1, 2])

def dataset():
    return torch.utils.data.TensorDataset(*pairs("train"))

def shuffled():
    return torch.utils.data.DataLoader(dataset(), shuffle=True)

def loader():
    return torch.utils.data.DataLoader(dataset(), batch_size=4)

def words():
    return {"text": ["a"]}

def nothing():
    return None

def ends():
    raise SystemExit(3)

def broken(outputs, targets):
    raise ValueError("no such thing")

def squares(outputs, targets):
    return outputs.square().mean()

def tokens():
    return [{"input_ids": torch.tensor([[1, 2, 3]])}]
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "theirs.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    np.savez("images.npz", x=draw.normal(size=(9, 1, 4, 4)).astype(np.float32), y=np.arange(9) % 3)
    np.savez("gap.npz", x=np.ones((4, 1, 4, 4), np.float32), y=np.array([0, 2, 0, 2]))
    frame = pd.DataFrame(draw.normal(size=(8, 3)), columns=["a", "b", "price"])
    frame.to_csv("t.csv", index=False)
    frame.to_parquet("t.parquet")
    yield tmp_path
    sys.modules.pop("theirs", None)


def shown(cli: Call, *arguments: object) -> dict[str, Any]:
    code, out, err = cli("measure", *arguments, "--measures", "gradient_norm", "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def test_the_loss_is_that_of_the_file_s_rows(cli: Call, folder: Path) -> None:
    model = cnn()
    torch.save({"model_state_dict": {f"module.{n}": t for n, t in model.state_dict().items()}}, "w.pt")
    found = shown(cli, "theirs:cnn", "--checkpoint", "w.pt", "--data", "images.npz")
    with np.load("images.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    assert found["loss"] == pytest.approx(functional.cross_entropy(model(x), y).item(), rel=1e-6)
    exact = shown(cli, "theirs:cnn", "--checkpoint", "w.pt", "--data", "images.npz", "--float64")
    assert exact["loss"] == pytest.approx(
        functional.cross_entropy(model.double()(x.double()), y).item(), rel=1e-12
    )
    assert found["samples"] == 9
    assert any("module. is taken off" in note for note in found["notes"])
    two = shown(
        cli, "--model", "theirs:cnn", "--checkpoint", "w.pt", "--data", "images.npz", "--params", "3.*"
    )
    assert two["parameters"] == 8 * 3 + 3


def test_a_parquet_table_with_a_pickled_checkpoint(cli: Call, folder: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    torch.save(model.state_dict(), "w.pt")
    found = shown(cli, "theirs:table", "--checkpoint", "w.pt", "--data", "t.parquet", "--target", "price")
    frame = torch.tensor(pd.read_parquet("t.parquet").to_numpy(), dtype=torch.float32)
    assert found["loss"] == pytest.approx(
        functional.mse_loss(model(frame[:, :2]), frame[:, 2:]).item(), rel=1e-5
    )
    own = shown(cli, "theirs:table", "--data", "t.csv", "--target", "price", "--loss", "theirs:squares")
    assert own["loss"] != found["loss"]


def test_data_of_a_function(cli: Call, folder: Path) -> None:
    losses = {
        name: shown(cli, "theirs:cnn", "--data", f"theirs:{name}")["loss"]
        for name in ("pairs", "dataset", "loader")
    }
    assert losses["pairs"] == pytest.approx(losses["dataset"]) == pytest.approx(losses["loader"])
    other = shown(cli, "theirs:cnn", "--data", "theirs:pairs", "--part", "test")["loss"]
    assert other != pytest.approx(losses["pairs"])
    assert shown(cli, "theirs:cnn", "--data", "theirs:arrays")["samples"] == 3


def test_images_and_more_outputs_than_classes(cli: Call, folder: Path) -> None:
    for label in "xy":
        (folder / "pictures" / label).mkdir(parents=True)
        Image.new("L", (4, 4), 9).save(folder / "pictures" / label / "1.png")
    found = shown(cli, "theirs:cnn", "--data", "pictures", "--option", "classes=5")
    assert found["data"] == "pictures"
    assert "pixels / 255" in found["standardisation"]


def test_surface_and_interpolation_of_one_s_own(cli: Call, folder: Path) -> None:
    for name in ("a", "b"):
        save_file(cnn().state_dict(), f"{name}.safetensors")
    both = ("--model", "theirs:cnn", "--data", "images.npz", "--points", 3, "--json")
    code, out, err = cli("surface", "a.safetensors", *both)
    assert code == 0, err
    assert len(json.loads(out)["points"]) == 9
    assert cli("interpolate", "a.safetensors", "b.safetensors", *both)[0] == 0


def test_a_language_model_with_a_text(cli: Call, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=16, n_embd=4, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained("lm")
    Path("text.txt").write_text("to be or not to be " * 4)
    found = shown(cli, "hf:lm", "--text", "text.txt", "--block", 8)
    rows = torch.tensor(list(Path("text.txt").read_bytes())[:72]).reshape(9, 8)
    rest = torch.tensor([list(Path("text.txt").read_bytes())[72:]])
    obj = Objective.from_transformers(model, [{"input_ids": rows}, {"input_ids": rest}])
    assert found["loss"] == pytest.approx(obj.loss(), rel=1e-5)
    assert found["samples"] == 9 * 7 + 3
    assert shown(cli, "hf:lm", "--data", "theirs:tokens")["samples"] == 2
    double = Objective.from_transformers(
        model, [{"input_ids": rows}, {"input_ids": rest}], dtype=torch.float64
    )
    exact = shown(cli, "hf:lm", "--text", "text.txt", "--block", 8, "--float64")
    assert exact["loss"] == pytest.approx(double.loss(), rel=1e-12)
    assert exact["loss"] != found["loss"]
    assert shown(cli, "hf:lm", "--text", "text.txt", "--mode", "train")["samples"] == 5 * 15 - 4
    page = folder / "p.html"
    without = "surface,density,worst_case,average_direction,audit,trace,frobenius_norm"
    code, out, err = cli(
        "examine", "--model", "hf:lm", "--text", "text.txt", "--without", without, "-o", page
    )
    assert code == 0, err
    assert "over 71 tokens and" in " ".join(out.split())
    assert "hf:lm on text.txt" in page.read_text(encoding="utf-8")
    assert cli("surface", "--model", "hf:lm", "--text", "text.txt", "--points", 3, "--json")[0] == 0


def test_classifiers_with_rows_and_with_images(cli: Call, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    config = transformers.BertConfig(vocab_size=256, max_position_embeddings=8, **small, **names)
    transformers.BertForSequenceClassification(config).save_pretrained("reviews")
    rows = pd.DataFrame({"review": ["fine", "poor", "so so"], "stars": ["good", "bad", "bad"]})
    rows.to_json("reviews.jsonl", orient="records", lines=True)
    found = shown(cli, "hf:reviews", "--dataset", "reviews.jsonl", "--column", "review", "--target", "stars")
    assert found["samples"] == 3
    assert "Classes by the names in its configuration." in found["notes"]
    config = transformers.ViTConfig(image_size=4, patch_size=2, num_channels=3, num_labels=3, **small)
    transformers.ViTForImageClassification(config).save_pretrained("vit")
    found = shown(cli, "hf:vit", "--data", "images.npz")
    assert shown(cli, "hf:vit", "--data", "images.npz", "--samples", 4)["samples"] == 4
    assert found["samples"] == 9
    assert "Grey images are given 3 equal channels." in found["notes"]
    for arguments, words in (
        (("hf:reviews", "--text", "theirs.py"), "which needs labels beside the text"),
        (("hf:reviews", "--data", "reviews.jsonl", "--column", "review"), "--target is needed"),
        (
            ("hf:reviews", "--data", "reviews.jsonl", "--column", "revew", "--target", "stars"),
            "did you mean review",
        ),
        (("hf:reviews", "--data", "t.csv", "--target", "a"), "--column is needed"),
        (("hf:reviews", "--data", "t.csv", "--target", "a", "--column", "b"), "must hold text in every row"),
        (("hf:vit", "--text", "theirs.py"), "takes no --text"),
        (("hf:vit", "--data", "t.csv", "--target", "a"), "takes images"),
    ):
        code, _, err = cli("measure", *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "none.npz"), "there is no file or folder none.npz"),
        (("--data", "digit"), "did you mean digits?"),
        (("--data", "theirs:pair"), "has no 'pair'; did you mean pairs?"),
        (("--data", "theirs.py:pairs"), "not its file; write theirs:pairs"),
        (("--data", "theirs:loader", "--part", "test"), "has no parts"),
        (("--data", "theirs:shuffled"), "shuffle=False"),
        (("--data", "theirs:words"), "must be pairs of inputs and targets"),
        (("--data", "theirs:nothing"), "batches must be"),
        (("--data", "theirs:ends"), "raised SystemExit (3)"),
        (("--data", "gap.npz"), "If whole numbers are classes, say --task classification"),
        (
            ("--data", "images.npz", "--loss", "theirs:broken"),
            "raised ValueError (no such thing) in theirs.py",
        ),
        (("--data", "t.csv"), "--target is needed"),
        (("--data", "t.csv", "--target", "prices"), "did you mean price?"),
        (("--data", "t.csv", "--target", "price"), "must take the inputs of t.csv"),
        (("--data", "digits", "--target", "price"), "--target is for a file or folder"),
        (("--data", "digits", "--text", "t.csv"), "--text is for language models"),
        (("--data", "images.npz", "--task", "ranking"), "--task must be one of"),
        (("--data", "images.npz", "--params", "3.weigth"), "did you mean 3.weight?"),
        (("--data", "images.npz", "--checkpoint", "t.csv"), "must end in .safetensors"),
        (("--data", "images.npz", "--checkpoint", "no.pt"), "does not exist"),
        (("--data", "images.npz", "--loss", "mes"), "did you mean mse?"),
        (("--data", "images.npz", "--model", "mlp"), "the model is named twice"),
        (("--data", "images.npz", "--set", "gradient_nrom.x=1"), "did you mean gradient_norm?"),
    ],
)
def test_one_sentence_for_what_is_wrong(
    cli: Call, folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = cli("measure", "theirs:cnn", "--measures", "gradient_norm", *arguments)
    told = [
        line for line in err.splitlines() if "which runs its code" not in line and line != "a word on the way"
    ]
    assert (code, out, len(told)) == (2, "", 1), err
    assert words in told[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("measure", "mpl", "--data", "digits"), "did you mean mlp?"),
        (("measure", "mlp", "--data", "digits", "--measures", "lamda_max"), "did you mean lambda_max?"),
        (("measure", "mlp", "--data", "digits", "--option", "hiden=[3]"), "did you mean hidden?"),
        (("examine", "mlp", "--data", "digits", "--without", "densty"), "did you mean density?"),
        (("studies", "kaur2021"), "did you mean kaur2022?"),
        (("measure", "mlp", "--data", "digits", "--sampels", "3"), "--samples"),
        (("mesure", "mlp"), "measure"),
    ],
)
def test_typos_get_a_suggestion(cli: Call, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert words in err


def test_a_pickle_that_would_run_code_is_refused(cli: Call, folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            import os

            return os.system, ("touch ran",)

    torch.save({"state_dict": {"0.weight": Bomb()}}, "w.ckpt")
    code, _, err = cli("measure", "theirs:cnn", "--checkpoint", "w.ckpt", "--data", "images.npz")
    assert code == 2
    assert "holds more than tensors" in err
    assert not Path("ran").exists()


def test_ctrl_c_in_the_middle_leaves_a_page_of_what_is_done(folder: Path) -> None:
    np.savez("some.npz", x=np.ones((20, 1, 4, 4), dtype=np.float32), y=np.arange(20) % 3)
    command = [sys.executable, "-m", "sharpscope", "examine", "theirs:interrupted"]
    ended = subprocess.run([*command, "--data", "some.npz", "-o", "p.html"], capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "it was interrupted" in Path("p.html").read_text(encoding="utf-8")
