"""Precision and compilation, declared in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch._inductor.exc import InvalidCxxCompiler

from sharpscope.data import Dataset, Split
from sharpscope.errors import InputError
from sharpscope.seeding import generator
from sharpscope.serialization import explain
from sharpscope.training import RunConfig, evaluate, train
from training.small_runs import bits, classification, config, noisy_network, perceptron, timeless
from training.test_resume import after, in_pieces


def test_they_are_part_of_a_run_and_earlier_identifiers_stay() -> None:
    """The identifiers were taken before these keys existed."""
    assert config().run_id() == "e934e340567c4af8"
    assert config(batch_size="full", steps_per_epoch=3).run_id() == "0d1cccc34b9bc287"
    assert config(precision="full", compile=False).run_id() == config().run_id()
    declared = [
        config(precision="bfloat16"),
        config(compile=True),
        config(precision="bfloat16", compile=True),
    ]
    assert len({run.run_id() for run in (config(), *declared)}) == 4
    for run in declared:
        assert RunConfig.model_validate_json(run.canonical_json()) == run


def test_half_precision_of_double_is_refused() -> None:
    with pytest.raises(ValidationError) as refused:
        config(precision="bfloat16", dtype="float64")
    assert "has a meaning only with dtype" in explain(refused.value)


def test_bfloat16_computes_products_in_bfloat16_and_everything_else_in_float32() -> None:
    run, model, twin = config(precision="bfloat16", stop={"epochs": 2}), perceptron(), perceptron()
    outcome = train(run, classification(), model)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    # evaluated in float32, as it will be measured
    assert outcome.final["test_loss"] == evaluate(model, classification().test, "cross_entropy")[0]

    data = classification().train
    for epoch in (1, 2):
        order = torch.randperm(53, generator=generator("order", run.run_id(), epoch))
        for chosen in order.split(8):
            x = data.inputs[chosen].bfloat16()
            w1, b1, w2, b2 = (p.bfloat16() for p in twin.parameters())
            hidden = torch.tanh(nn.functional.linear(x, w1, b1))
            loss = nn.functional.cross_entropy(
                nn.functional.linear(hidden, w2, b2).float(), data.targets[chosen]
            )
            gradients = torch.autograd.grad(loss, list(twin.parameters()))
            with torch.no_grad():
                for p, g in zip(twin.parameters(), gradients, strict=True):
                    assert g.dtype == torch.float32
                    p -= 0.1 * g
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    full = perceptron()
    train(config(stop={"epochs": 2}), classification(), full)
    assert bits(full) != bits(model)


def test_a_bfloat16_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    run, whole = config(precision="bfloat16"), noisy_network()
    expected = train(run, classification(), whole)
    outcome, model = in_pieces(run, tmp_path, 5)
    assert bits(model) == bits(whole)
    assert timeless(outcome.history) == timeless(expected.history)


def convolutional() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 9, 3, bias=False),
            nn.BatchNorm2d(9),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 2),
        )


@pytest.mark.parametrize("name", ["sgd", "adam", "asam"])
def test_channels_last_memory_changes_a_run_by_rounding_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = torch.randn(21, 2, 6, 6, generator=generator("images"))
    split = Split(inputs, (inputs.mean((1, 2, 3)) > 0).long())
    data = Dataset("digits", "classification", 2, (2, 6, 6), split, None, split, "none")
    run = config(optimizer={"name": name, "lr": 0.01}, stop={"epochs": 2})
    fast, plain, layouts = convolutional(), convolutional(), []

    def look(row: Any) -> None:
        layouts.append(fast[0].weight.is_contiguous(memory_format=torch.channels_last))

    train(run, data, fast, on_epoch=look)
    assert layouts == [True, True]
    assert fast[0].weight.is_contiguous()
    monkeypatch.setattr("sharpscope.training.computation._lay_out", lambda model, layout: None)
    train(run, data, plain)
    for (key, ours), theirs in zip(fast.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=key)


def test_a_model_is_laid_out_as_before_when_training_fails() -> None:
    model = convolutional()
    with pytest.raises(RuntimeError):
        train(config(), classification(), model)  # of rows, which are no images
    assert model[0].weight.is_contiguous()


def has_compiler() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_a_compiled_run_agrees_with_one_that_is_not_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Interrupted so that the resumed run meets the epoch's last, smaller batch first."""
    run = config(compile=True, stop={"epochs": 2})
    whole, model, plain = perceptron(), perceptron(), perceptron()
    expected = train(run, classification(), whole)
    train(run, classification(), model, workspace=tmp_path, should_stop=after(6))
    outcome = train(run, classification(), model, workspace=tmp_path)
    assert bits(model) == bits(whole)
    assert timeless(outcome.history) == timeless(expected.history)

    order = [generator("order", run.run_id(), epoch) for epoch in (1, 2)]
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    data = classification().train
    for draws in order:
        for chosen in torch.randperm(53, generator=draws).split(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(plain(data.inputs[chosen]), data.targets[chosen]).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_without_a_compiler_the_refusal_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none_here)
    with pytest.raises(
        InputError, match=r"^compile = true needs a C\+\+ compiler, and none was found .* configuration\.$"
    ):
        train(config(compile=True), classification(), perceptron())


def test_what_cannot_be_compiled_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def refusing(model: Any, **options: Any) -> Any:
        def forward(inputs: torch.Tensor) -> torch.Tensor:
            raise BackendCompilerFailed(print, RuntimeError("no such kernel"), [])

        return forward

    monkeypatch.setattr(torch, "compile", refusing)
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "g++")
    with pytest.raises(
        InputError, match=r"torch.compile does not take this model \(.*no such kernel\); leave compile out"
    ):
        train(config(compile=True), classification(), perceptron())
