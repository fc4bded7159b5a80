"""Parts of the data drawn by score: unbiased, exact bounds, the model untouched."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sharpscope.curvature import CurvatureProducts
from sharpscope.errors import InputError
from sharpscope.objective.importance_sampling import (
    draw,
    importance_scores,
    part_size,
    slope_and_curvature,
    stratified_sample,
)
from sharpscope.objective.objective import Objective

N = 2400


def _classifier(n: int = N) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)).double()
    x = torch.randn(n, 6, dtype=torch.float64) * torch.distributions.Pareto(1.0, 1.5).sample((n, 1)).double()
    return model, x, torch.randint(3, (n,))


def test_without_influences_every_sample_is_as_likely_and_counts_alike() -> None:
    ((chosen, weight),) = stratified_sample(None, 1000, 100, seed=3)
    assert len(chosen) == len(set(chosen.tolist())) == 100
    assert weight == 10


def test_weighted_sums_of_a_draw_are_unbiased_and_sharper_than_uniform_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(N, generator=generator, dtype=torch.float64) ** 12
    what = scores * (1 + 0.2 * torch.randn(N, generator=generator, dtype=torch.float64))
    sums = {
        drawn: torch.stack(
            [sum(w * what[i].sum() for i, w in stratified_sample(by, N, 300, seed)) for seed in range(400)]
        )
        for drawn, by in (("by score", scores), ("uniform", None))
    }
    by_score, uniform = sums["by score"], sums["uniform"]
    assert abs(by_score.mean() - what.sum()) < 4 * by_score.std() / 20
    assert by_score.std() < 0.2 * uniform.std()


def test_what_matters_most_is_certain_to_be_drawn_and_numbers_come_out_about_right() -> None:
    scores = torch.ones(N, dtype=torch.float64)
    scores[:40] = 1000
    drawn = stratified_sample(scores, N, 300, seed=1)
    certain = next(chosen for chosen, weight in drawn if weight == 1)
    assert set(range(40)) <= set(certain.tolist())
    assert abs(sum(len(chosen) for chosen, _ in drawn) - 300) <= 2
    assert sum(weight * len(chosen) for chosen, weight in drawn) == pytest.approx(N)


def test_influences_that_differ_little_draw_almost_the_same_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(N, generator=generator, dtype=torch.float64) ** 4
    later = scores * (1 + 0.02 * torch.randn(N, generator=generator, dtype=torch.float64))

    def drawn(by: torch.Tensor, seed: int) -> set[int]:
        return {i for chosen, _ in stratified_sample(by, N, 300, seed) for i in chosen.tolist()}

    assert len(drawn(scores, 5) & drawn(later, 5)) > 270
    assert len(drawn(scores, 5) & drawn(scores, 6)) < 200


def test_a_bound_for_linear_layers_is_the_size_of_the_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1, bias=False).double()  # quartic: the loss is curved differently at every sample
    x, y = torch.randn(50, 6).double(), torch.randn(50, 1).double()
    found = importance_scores(Objective(model, lambda o, t: (o - t).pow(4).mean(), (x, y)))
    residual = (model(x) - y).detach()[:, 0].abs()
    steep, curved = (x.norm(dim=1) * factor for factor in (4 * residual**3, 12 * residual**2))
    torch.testing.assert_close(found, (steep / steep.sum() + curved / curved.sum()) / 2)


def test_curvature_at_the_outputs_overlooks_no_pair_of_classes() -> None:
    outputs = torch.full((3, 5), -40.0, dtype=torch.float64)
    for sample, pair in enumerate([(0, 1), (2, 3), (1, 4)]):
        outputs[sample, list(pair)] = 0.0  # torn between two classes
    _, sizes = slope_and_curvature(lambda f: nn.functional.cross_entropy(f, torch.tensor([0, 2, 4])), outputs)
    assert bool((sizes > 0.05).all())


def test_the_model_is_untouched_and_an_activation_in_place_does_no_harm() -> None:
    model, x, y = _classifier()
    before = copy.deepcopy(model.state_dict())
    obj = Objective(model, nn.functional.cross_entropy, (x, y))
    found = importance_scores(obj)
    assert found is not None
    assert found.shape == (N,)
    assert float(found.sum()) == pytest.approx(1)
    obj.evaluator.chunk_size = 7
    torch.testing.assert_close(importance_scores(obj), found)  # each sample on its own
    assert all(not module._forward_hooks for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("memory", ["1GiB", "10kB"])
def test_scores_come_with_the_graphs_where_these_are_kept(memory: str) -> None:
    model, x, y = _classifier()
    obj = Objective(model, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]).double()), (x, y))
    obj.evaluator.chunk_size = 500
    vector = torch.randn(obj.size, dtype=torch.float64)
    expected, image = importance_scores(obj), obj.hvp(vector)
    with CurvatureProducts(obj, memory) as product:
        torch.testing.assert_close(importance_scores(obj, product), expected)
        assert (product.kept_bytes > 0) == (product.graphs == 1) == (memory == "1GiB")
        torch.testing.assert_close(product(vector), image)
        torch.testing.assert_close(product(vector), image)  # what watched the slopes is gone
        assert product.graphs == (1 if memory == "1GiB" else 2)
    assert all(not module._forward_hooks for module in model.modules())


def test_token_inputs_have_influences() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(12, 3)).double()
    tokens, y = torch.randint(11, (40, 3)), torch.randint(3, (40,))
    found = importance_scores(Objective(model, nn.functional.cross_entropy, (tokens, y)))
    assert found is not None
    assert bool((found > 0).all())


def test_a_drawn_part_is_the_whole_in_expectation() -> None:
    model, x, y = _classifier()
    whole = Objective(model, nn.functional.cross_entropy, (x, y))
    by = importance_scores(whole)
    parts = [draw(whole, seed, scores=by) for seed in range(60)]
    assert parts[0].evaluator.evaluated < 510
    assert parts[0].n_samples == pytest.approx(N)
    losses = torch.tensor([part.loss() for part in parts])
    assert abs(losses.mean() - whole.loss()) < 4 * losses.std() / 60**0.5
    vector = torch.randn(whole.size, dtype=torch.float64)
    exact = whole.hvp(vector)
    errors = torch.stack([part.hvp(vector) - exact for part in parts])
    uniform = torch.stack([draw(whole, seed).hvp(vector) - exact for seed in range(60)])
    assert errors.norm(dim=1).mean() < 0.7 * uniform.norm(dim=1).mean()
    assert errors.mean(0).norm() < 0.5 * errors.norm(dim=1).mean()


@pytest.mark.parametrize("chunk_size", [7, 64, 8192])
def test_every_sample_of_a_part_counts_by_its_weight_wherever_chunks_end(chunk_size: int) -> None:
    model, x, y = _classifier()
    loss = nn.functional.cross_entropy
    whole = Objective(model, loss, (x, y), chunk_size=chunk_size)
    by = importance_scores(whole)
    part = draw(whole, 3, scores=by)
    drawn = stratified_sample(by, N, part_size(whole, 0.05), 3)
    assert len(drawn) > 3
    strata_alone = [(whole.subset(i), len(i) * w / N) for i, w in drawn]
    vector = torch.randn(whole.size, dtype=torch.float64)

    def same(found: torch.Tensor, of_one: Callable[[Objective], torch.Tensor]) -> None:
        torch.testing.assert_close(found, sum(share * of_one(one) for one, share in strata_alone))

    same(torch.tensor(part.loss()), lambda one: torch.tensor(one.loss()))
    same(part.gradient(), Objective.gradient)
    same(part.hvp(vector), lambda one: one.hvp(vector))

    def gauss_newton(one: Objective) -> torch.Tensor:
        return one.evaluator.multiply(one.evaluator.gauss_newton_graphs(one.evaluator.leaves()), vector)

    same(gauss_newton(part), gauss_newton)
    expected = len(torch.cat([i for i, _ in drawn]).split(chunk_size))
    assert sum(1 for _ in part.evaluator.chunks()) == expected
    skipped = list(part.evaluator.hessian_graphs(part.evaluator.leaves(), skip=1))
    assert sum(n for _, n in skipped) == pytest.approx(float(part.evaluator.weights[chunk_size:].sum()))


def test_a_penalty_on_the_parameters_counts_in_a_part_as_in_the_whole() -> None:
    model, x, y = _classifier()
    penalty = 1e3

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        squares = sum(p.square().sum() for p in model.parameters())
        return nn.functional.cross_entropy(outputs, targets) + penalty / 2 * squares

    whole = Objective(model, loss, (x, y))
    part = draw(whole, 0, scores=importance_scores(whole))
    vector = torch.randn(whole.size, dtype=torch.float64)
    for one in (whole, part):
        torch.testing.assert_close(one.hvp(vector), penalty * vector, rtol=0.1, atol=0.1 * penalty)


def test_a_part_with_weights_is_another_function_than_the_same_samples_without() -> None:
    model, x, y = _classifier()
    whole = Objective(model, nn.functional.cross_entropy, (x, y))
    by = importance_scores(whole)
    part = draw(whole, 0, scores=by)
    alone = whole.subset(torch.cat([i for i, _ in stratified_sample(by, N, part_size(whole, 0.05), 0)]))
    assert part.loss() != alone.loss()
    assert part.fingerprint != alone.fingerprint


def test_where_single_samples_cannot_be_told_apart_there_is_none() -> None:
    model, x, y = _classifier(20)

    def batch_loss(module: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, int]:
        return nn.functional.cross_entropy(module(batch[0]), batch[1]), len(batch[1])

    assert importance_scores(Objective.from_batch_loss(model, [(x, y)], batch_loss)) is None
    assert importance_scores(Objective(model, nn.functional.cross_entropy, (x, y), mode="train")) is None


def test_a_part_may_be_drawn_and_multiplied_in_inference_mode() -> None:
    model, x, y = _classifier()
    whole = Objective(model, nn.functional.cross_entropy, (x, y))
    vector = torch.randn(whole.size, dtype=torch.float64)
    expected = draw(whole, 0, scores=importance_scores(whole)).hvp(vector)
    with torch.inference_mode():
        found = draw(whole, 0, scores=importance_scores(whole)).hvp(vector)
    torch.testing.assert_close(found, expected)


def test_a_part_drawn_with_weights_is_not_drawn_from_again() -> None:
    model, x, y = _classifier()
    part = draw(Objective(model, nn.functional.cross_entropy, (x, y)), 0, scores=torch.ones(N))
    with pytest.raises(InputError, match="draw from the whole"):
        draw(part, 1)
