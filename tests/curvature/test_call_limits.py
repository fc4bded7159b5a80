"""Deadlines, progress and interrupts of a long call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import sharpscope as ss
from sharpscope import InputError, NotConvergedWarning, Objective, top_eigenvalues
from sharpscope.curvature.by_layer import trace_by_layer
from sharpscope.curvature.call_limits import CallLimits, CallProgress
from sharpscope.curvature.operators import CurvatureProducts


def _objective() -> Objective:
    torch.manual_seed(0)
    x, y = torch.randn(400, 10), torch.randint(0, 3, (400,))
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 3))
    return Objective(model, nn.functional.cross_entropy, (x, y), chunk_size=50)


def test_the_first_line_comes_before_the_first_product_is_done() -> None:
    seen: list[CallProgress] = []
    top_eigenvalues(_objective(), progress=seen.append)
    assert seen[0].done == 0
    assert seen[0].seconds_each > 0
    assert "to come" in str(seen[0])


def test_a_deadline_returns_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sharpscope.curvature.call_limits.time.perf_counter", lambda: now[0])
    multiply = CurvatureProducts.__call__

    def slow(self: CurvatureProducts, block: torch.Tensor) -> torch.Tensor:
        now[0] += 1.0
        return multiply(self, block)

    monkeypatch.setattr(CurvatureProducts, "__call__", slow)
    exact = top_eigenvalues(_objective(), tol=1e-5)
    with pytest.warns(NotConvergedWarning, match="deadline=4.5 passed"):
        e = top_eigenvalues(_objective(), tol=1e-5, deadline=4.5)
    assert not e.converged[0]
    assert 3 <= e.products <= 5
    assert abs(e.value - exact.value) <= e.error_estimates[0]
    with pytest.raises(InputError, match="at least one product"):
        top_eigenvalues(_objective(), deadline=0.5)


@pytest.mark.parametrize("answer", ["raise", "return"])
def test_an_interrupt_raises_or_returns(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, calls = CurvatureProducts.__call__, []

    def interrupted(self: CurvatureProducts, block: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return multiply(self, block)

    monkeypatch.setattr(CurvatureProducts, "__call__", interrupted)
    if answer == "raise":
        with pytest.raises(KeyboardInterrupt):
            top_eigenvalues(_objective())
    else:
        with pytest.warns(NotConvergedWarning, match="interrupted"):
            e = top_eigenvalues(_objective(), on_interrupt="return")
        assert e.products == 5
        assert e.error_estimates[0] > 0


@pytest.mark.parametrize(
    "options", [{"deadline": 0}, {"progress": 3}, {"on_interrupt": "wait"}, {"mode": "slow"}]
)
def test_bad_arguments(options: dict) -> None:
    with pytest.raises(InputError):
        top_eigenvalues(_objective(), **options)


def _rectified(chunk: int | None = 50) -> Objective:
    torch.manual_seed(0)
    x, y = torch.randn(400, 10), torch.randint(0, 3, (400,))
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
    return Objective(model, nn.functional.cross_entropy, (x, y), chunk_size=chunk)


LONG: dict[str, Callable[..., Any]] = {
    "trace": lambda obj, **limits: ss.trace(obj, samples=40, **limits),
    "frobenius_norm": lambda obj, **limits: ss.frobenius_norm(obj, rtol=1e-3, max_samples=40, **limits),
    "spectral_density": lambda obj, **limits: ss.spectral_density(obj, probes=6, steps=4, **limits),
    "trace_by_layer": lambda obj, **limits: trace_by_layer(obj, probes=8, **limits),
    "between_iterates": lambda obj, **limits: ss.between_iterates(
        obj, 1.1 * obj.flat(), 6, tol=0.1, **limits
    ),
    "average_direction": lambda obj, **limits: ss.average_direction_sharpness(obj, samples=40, **limits),
    "average_direction to a width": lambda obj, **limits: ss.average_direction_sharpness(
        obj, 0.1, relative_width=0.2, **limits
    ),
    "worst_case": lambda obj, **limits: ss.worst_case_sharpness(obj, restarts=6, steps=2, **limits),
    "interpolate": lambda obj, **limits: ss.interpolate(obj.model, obj.model, obj, [0.2, 0.4, 0.6], **limits),
    "surface": lambda obj, **limits: ss.surface(obj, points=3, **limits),
    "audit": lambda obj, **limits: ss.audit(obj, ["gradient_norm", "trace", "weight_norm"], **limits),
    "measure": lambda obj, **limits: ss.measure(
        obj, [{"measure": "trace", "samples": 8}, "sam_step", "gradient_norm"], **limits
    ),
}
PARTIAL_WITHOUT_WARNING = {"trace_by_layer"}
"""Says in its result how many probes there were."""


@pytest.mark.parametrize("name", LONG)
@pytest.mark.filterwarnings("ignore::sharpscope.NotConvergedWarning")
def test_every_long_call_tells_how_far_it_is_and_returns_what_it_has(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpscope.curvature.call_limits.EVERY", 0.0)
    monkeypatch.setattr("sharpscope.measures.perturbation.batched.can_batch", lambda obj: False)
    obj, seen = _rectified(), list[CallProgress]()
    LONG[name](obj, progress=seen.append)
    assert seen[0].done <= 1
    assert seen[0].seconds_each > 0
    assert any("to come" in str(state) for state in seen)
    ended = max(len(seen) // 2, 3)
    left = [ended]

    def interrupt(state: CallProgress) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LONG[name](obj, progress=interrupt)
    left = [ended]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = LONG[name](obj, progress=interrupt, on_interrupt="return")
    assert left[0] == 0
    assert found is not None
    said = any("interrupted" in str(one.message) for one in heard)
    assert said or name in PARTIAL_WITHOUT_WARNING
    now = [0.0]
    monkeypatch.setattr("sharpscope.curvature.call_limits.time.perf_counter", lambda: now[0])

    def later(state: CallProgress) -> None:
        now[0] += 1.0

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        LONG[name](obj, progress=later, deadline=ended - 0.5)
    said = any(f"deadline={ended - 0.5:g} passed" in str(one.message) for one in heard)
    assert said or name in PARTIAL_WITHOUT_WARNING


@pytest.mark.parametrize("chunk", [50, None])
def test_any_measure_ends_at_the_deadline_of_the_table_it_is_in(
    chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that takes no deadline itself, evaluated chunk by chunk or many points in one pass."""
    now = [0.0]
    monkeypatch.setattr("sharpscope.curvature.call_limits.time.perf_counter", lambda: now[0])
    obj = _rectified(chunk)
    watched, chunks = CallLimits.chunk, []

    def slow(self: CallLimits, *arguments: Any) -> None:
        chunks.append(1)
        now[0] += 1.0
        watched(self, *arguments)

    monkeypatch.setattr(CallLimits, "chunk", slow)
    with pytest.warns(UserWarning, match="not taken: pac_bayes_sigma, weight_norm"):
        table = ss.measure(obj, ["gradient_norm", "pac_bayes_sigma", "weight_norm"], deadline=30.0)
    assert table["value"].notna().tolist() == [True, False, False]
    assert "deadline=30 passed" in table["protocol"][2]
    assert len(chunks) <= 31


def test_a_call_inside_another_keeps_the_deadline_of_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sharpscope.curvature.call_limits.time.perf_counter", lambda: now[0])

    def later(state: CallProgress) -> None:
        now[0] += 1.0

    with pytest.warns(NotConvergedWarning, match="deadline=4 passed"):
        table = ss.measure(
            _rectified(), [{"measure": "trace", "samples": 80}, "gradient_norm"], deadline=4.0, progress=later
        )
    assert table["value"].notna().tolist() == [True, False]
    assert not table["converged"][0]
    assert table["samples"][0] < 80


def test_a_fast_search_ends_inside_its_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(6000, 10)
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 3))
    obj = Objective(model, nn.functional.cross_entropy, (x, x[:, :3].argmax(1)))
    whole = top_eigenvalues(obj, mode="fast", tol=1e-6)
    left, watched = [0], CallLimits.chunk

    def interrupt(self: CallLimits, *arguments: Any) -> None:
        watched(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(CallLimits, "chunk", interrupt)
    ends = []
    for at in (3, 20, 60, 80):
        left[0] = at
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                e = top_eigenvalues(obj, mode="fast", tol=1e-6, on_interrupt="return")
            except InputError as error:
                ends.append(str(error))
            else:
                ends.append(e)
                assert abs(e.value - whole.value) <= 0.1 * whole.value
    assert "at least one product" in ends[0]


def _gpt2() -> Objective:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    tokens = torch.randint(0, 64, (8, 16))
    return Objective.from_transformers(transformers.GPT2LMHeadModel(config), {"input_ids": tokens})


def test_a_large_language_model_is_evaluated_in_parts_that_an_interrupt_falls_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As GPT-2 with 124 million parameters is, whose 8 sequences of 64 tokens make 8 parts."""
    whole = _gpt2()
    assert whole.evaluator.batches.count == 1
    monkeypatch.setattr("sharpscope.objective.transformers.TOKENS_TIMES_PARAMETERS", 20.0 * whole.size)
    obj = _gpt2()
    assert obj.evaluator.batches.count == 8
    assert obj.loss() == pytest.approx(whole.loss(), rel=1e-6)
    v = torch.randn(obj.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(obj.hvp(v), whole.hvp(v), rtol=1e-3, atol=1e-5)
    seen = list[CallProgress]()
    e = top_eigenvalues(obj, memory=40 * 4 * obj.size, tol=0.1, progress=seen.append)
    assert seen[0].done == 0
    assert "to come" in str(seen[0])
    watched, chunks = CallLimits.chunk, []

    def interrupt(self: CallLimits, *arguments: Any) -> None:
        watched(self, *arguments)
        chunks.append(1)
        if len(chunks) == 8 * 3 + 4:  # in the middle of the fourth product
            raise KeyboardInterrupt

    monkeypatch.setattr(CallLimits, "chunk", interrupt)
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        early = top_eigenvalues(obj, tol=0.1, on_interrupt="return")
    assert len(chunks) == 28
    assert early.products in (2, 3)
    assert abs(early.value - e.value) <= early.error_estimates[0] + e.error_estimates[0]


def test_a_check_that_takes_long_says_what_a_product_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpscope.objective.evaluator.LONG_CHECK", 0.0)
    seen = list[CallProgress]()
    top_eigenvalues(_objective(), tol=0.1, progress=seen.append)
    assert [state.done for state in seen[:3]] == [
        0,
        0,
        1,
    ]  # after the check, the first chunk, the first product


def test_a_search_with_little_memory_takes_its_room_once() -> None:
    from sharpscope.curvature.lanczos import Krylov

    start = torch.randn(50, generator=torch.Generator().manual_seed(0)).double()
    matrix = torch.diag(torch.arange(50.0).double())
    krylov = Krylov(start, most=11)
    room = krylov._room.data_ptr()
    for _ in range(11):
        krylov.extend(matrix @ krylov.following)
    assert krylov._room.data_ptr() == room
    assert len(krylov._room) == 11
