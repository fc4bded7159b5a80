from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sharpscope.errors import CheckpointError
from sharpscope.training import load_checkpoint, read_metadata, save_checkpoint
from sharpscope.training.state_tree import decode, encode
from training.small_runs import bits, noisy_network, perceptron


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().mean().backward()
        optimizer.step()


def test_weights_buffers_optimizer_schedule_and_metadata_come_back(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
        model = noisy_network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3, 3], 0.5)

    model, optimizer, schedule = parts()
    stepped(model.eval(), optimizer)
    schedule.step()
    metadata = {"epoch": 3, "loss": 0.1, "none": None, "text": "τ", "list": [1, 2.5]}
    save_checkpoint(tmp_path / "c.safetensors", model, optimizer, schedule, metadata)

    again, optimizer_again, schedule_again = parts()
    assert load_checkpoint(tmp_path / "c.safetensors", again, optimizer_again, schedule_again) == metadata
    assert read_metadata(tmp_path / "c.safetensors") == metadata
    assert bits(again) == bits(model)
    assert schedule_again.state_dict() == schedule.state_dict()
    stepped(model, optimizer)
    stepped(again.eval(), optimizer_again)
    schedule.step()
    schedule_again.step()
    assert bits(again) == bits(model)
    assert optimizer_again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_odd_tensors_come_back_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self, fill: float) -> None:
            super().__init__()
            self.transposed = nn.Parameter(torch.full((2, 3), fill, dtype=dtype).t())
            self.scalar = nn.Parameter(torch.tensor(fill, dtype=dtype))
            self.register_buffer("empty", torch.zeros(0, 4))
            self.register_buffer("view", torch.arange(6)[2:4] + int(fill))
            self.register_buffer("flags", torch.tensor([True, False]))

    special = Odd(0.0)
    with torch.no_grad():
        special.transposed[:] = torch.tensor(
            [[0.1, -0.0], [float("inf"), float("-inf")], [1e-5, float("nan")]]
        )
    save_checkpoint(tmp_path / "c", special)
    again = Odd(3.0)
    load_checkpoint(tmp_path / "c", again)
    for name, value in special.state_dict().items():
        loaded = again.state_dict()[name]
        assert (
            loaded.contiguous()
            .view(-1)
            .view(torch.uint8)
            .equal(value.contiguous().view(-1).view(torch.uint8))
        )
    assert not again.transposed.is_contiguous()


def test_what_was_loaded_is_no_window_into_the_file(tmp_path: Path) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    stepped(model, optimizer)
    save_checkpoint(tmp_path / "c", model, optimizer)
    content = (tmp_path / "c").read_bytes()
    load_checkpoint(tmp_path / "c", model, optimizer)
    stepped(model, optimizer)
    assert (tmp_path / "c").read_bytes() == content


def test_a_plain_file_of_weights_serves(tmp_path: Path) -> None:
    model = perceptron(seed=4)
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    again = perceptron()
    assert load_checkpoint(tmp_path / "plain.safetensors", again) == {}
    assert bits(again) == bits(model)
    assert read_metadata(tmp_path / "plain.safetensors") == {}
    with pytest.raises(CheckpointError, match="holds no optimizer state"):
        load_checkpoint(tmp_path / "plain.safetensors", again, torch.optim.SGD(again.parameters(), lr=1))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    stepped(model, optimizer)
    save_checkpoint(tmp_path / "saved.safetensors", model, optimizer, metadata={"epoch": 3})
    return tmp_path / "saved.safetensors"


def refusal(
    path: Path, model: nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None
) -> str:
    model = perceptron(seed=8) if model is None else model
    before = bits(model)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, model, optimizer)
    assert bits(model) == before
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_truncated_at_any_length(saved: Path) -> None:
    content = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        saved.write_bytes(content[:length])
        assert "truncated, corrupt or no safetensors file" in refusal(saved)
    saved.write_bytes(content + b"x")
    refusal(saved)


def test_a_single_flipped_bit_anywhere_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    for position in range(0, len(content), 41):
        flipped = bytearray(content)
        flipped[position] ^= 4
        saved.write_bytes(flipped)
        refusal(saved)


def test_missing_and_folder(saved: Path) -> None:
    assert "does not exist" in refusal(saved.with_name("nothing"))
    assert "is a folder" in refusal(saved.parent)


def test_text_and_random_bytes(saved: Path) -> None:
    saved.write_text("[optimizer]\nname = 'sgd'\n" * 10)
    refusal(saved)
    saved.write_bytes(os.urandom(4096))
    refusal(saved)


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_a_pickle_is_never_loaded(saved: Path) -> None:
    trace = saved.with_name("exploded")
    saved.write_bytes(pickle.dumps(Bomb(trace)))
    assert "is a pickle" in refusal(saved)
    torch.save({"weights": Bomb(trace)}, saved)
    assert "is a pickle" in refusal(saved)
    assert not trace.exists()


def test_of_another_model(saved: Path) -> None:
    assert "0.weight is (8, 6) there and (8, 5) here" in refusal(saved, perceptron(inputs=5))
    deeper = nn.Sequential(*perceptron(), nn.Linear(3, 3))
    assert "it has no 3.weight" in refusal(saved, deeper)
    assert "which has 2.bias besides" in refusal(saved, nn.Sequential(*list(perceptron())[:2]))
    assert "as torch.float32 and the model as torch.float64" in refusal(saved, perceptron().double())


def test_of_another_optimizer(saved: Path) -> None:
    model = perceptron(seed=8)
    assert "holds the state of SGD, the optimizer is Adam" in refusal(
        saved, model, torch.optim.Adam(model.parameters())
    )
    fewer = torch.optim.SGD(list(model.parameters())[:2], lr=0.1)
    assert "groups of [4] parameters there, [2] here" in refusal(saved, model, fewer)


def test_of_a_later_format(saved: Path) -> None:
    save_file({"x": torch.zeros(1)}, saved, metadata={"sharpscope_checkpoint": "99"})
    assert "has format 99" in refusal(saved)


def test_a_failed_write_leaves_the_old_file_alone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written.*No space left"):
        save_checkpoint(saved, noisy_network())
    assert saved.read_bytes() == content
    assert os.listdir(saved.parent) == [saved.name]
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(saved.parent / "no such folder" / "c", perceptron())


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Talkative(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: object) -> None: ...

    with pytest.raises(CheckpointError, match="_extra_state is a dict"):
        save_checkpoint(tmp_path / "c", Talkative(2, 2))
    with pytest.raises(CheckpointError, match=r"state\.1 is of type set"):
        encode([1, {2}], {}, "state")


def test_metadata_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be JSON"):
        save_checkpoint(tmp_path / "c", perceptron(), metadata={"where": tmp_path})
    assert os.listdir(tmp_path) == []


def test_nested_state_survives_json_exactly() -> None:
    state = {
        0: {"step": torch.tensor(3.0), "flag": True, "history": [torch.ones(2), None, [0.1 + 0.2, -0.0]]},
        7: (1, float("-inf"), 2**70, ("a", {"b": ()})),
        "tags": {"tensor": 1, "float": "x", "dict": []},
    }
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(encode(state, tensors, "x"), allow_nan=False)
    back = decode(json.loads(text), tensors)
    assert back.keys() == state.keys()
    assert torch.equal(back[0]["step"], torch.tensor(3.0))
    assert str(back[0]["history"][2]) == "[0.30000000000000004, -0.0]"
    assert back[7] == state[7]
    assert back["tags"] == state["tags"]
    assert len(tensors) == 2
