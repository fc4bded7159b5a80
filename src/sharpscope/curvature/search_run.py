"""One search for eigenvalues from its first product to what is known when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits
from sharpscope.curvature.certified_search import CertifiedSearch
from sharpscope.curvature.davidson import ModelSearch
from sharpscope.curvature.lanczos import Krylov, lanczos, like
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory, budget
from sharpscope.curvature.spectral_model import KEPT, SpectralModel
from sharpscope.curvature.wanted import Array, Assessment, Wanted
from sharpscope.errors import InputError
from sharpscope.objective.batches import tensors_in
from sharpscope.objective.importance_sampling import draw, importance_scores, part_size
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator, seed_of

SOLVE = 0.05
"""Share of the data that the model is made of, at least 500 samples where that is not over a quarter. With a tenth
the MLP and LeNet-5 of benchmarks/problems.py take as many products of all the data."""

STEPS, FEW = 22, 6
"""Products with the part, and two for each eigenvalue: so many before a probe, and at least so many in fast mode,
until the leading vectors are accurate. A probe of the MLP took seven steps with nine vectors, four with 25. With 10,
16 and 22 the searches of `sharpscope.curvature.davidson` took 11.3, 10.1 and 10.5 products, a sixteenth of the data
being the part; with 2, 6 and 12 those in fast mode 3.6, 3.6 and 3.7."""

RESIDUAL = 0.01
"""Residual, relative to the largest value, at which a part's Ritz vectors are good enough to start from: with 0.1
the fast searches took 4.7 products, with 0.01 3.6, with 0.003 3.7."""

ROOM = 3
"""Vectors that must have room for each step on the part: basis, model, and what is left of it off a basis."""

PAYS, PAYS_FAST = 0.15, 0.25
"""Largest share of the data that the part may be for one to be used, certified and fast. With a quarter (500 of 2 000
images for VGG-11) a certified search, which wants 24 products with it, took 24 gradients where Lanczos took 17; a
fast one, content with eleven, took 13.4 where Lanczos took 26."""

VECTORS, VECTORS_SHARE = 4 * 2**30, 0.25
"""Bytes that a search's own vectors may take, and their share of a memory budget where one is given."""

ENOUGH, MOST_FOR_VECTORS = 24, 0.75
"""Vectors that a certified search of a trained network needs for one eigenvalue (13 to 15, and its Ritz vectors), and
the largest share of the budget that they may take from the graphs: a search that must restart with eleven vectors did
not certify one in 200 products."""

FAST = 6
"""About how many products a fast search takes for one eigenvalue: 5 to 7 on trained networks."""

SUBSETS_SHARE = 0.5
"""Share of the budget for graphs that the part's may take, before they are released, where none of all the data are
kept yet."""

LANCZOS, DAVIDSON = "lanczos", "davidson"
SUBSET, FOLLOWED = "with a model from a part of the data", "with the model of an earlier search"


@dataclass
class Found:
    """What a search knows when it ends; ``why`` says in words why it is not more."""

    values: NDArray[np.float64]
    vectors: Tensor
    residuals: NDArray[np.float64]
    errors: NDArray[np.float64]
    confidence: float
    algorithm: str
    why: str = ""
    models: Mapping[float, SpectralModel] = field(default_factory=dict)


class SearchRun:
    """One call: its operators, what is spent, and how the searches are run to their end."""

    def __init__(
        self,
        obj: Objective,
        wanted: Wanted,
        seed: int,
        max_products: int,
        start: Tensor,
        memory: Memory,
        matrix: Matrix,
        limits: CallLimits,
        earlier: Mapping[float, SpectralModel],
    ) -> None:
        self.obj, self.wanted, self.seed, self.max_products = obj, wanted, seed, max_products
        self.matrix, self.limits = matrix, limits
        self.start, self.earlier = start, earlier
        room, each = budget(memory, obj.device), obj.layout.most * torch.finfo(obj.dtype).bits // 8
        given = VECTORS if memory is None else int(VECTORS_SHARE * room)
        given = max(
            given, min(ENOUGH * each, int(MOST_FOR_VECTORS * room))
        )  # of large models few vectors fit
        self.room = given // each
        self.graphs = max(room - max(min(int(VECTORS_SHARE * room), given), min(ENOUGH * each, given)), 0)
        self.draws = generator("eigenvalues", seed)
        self.parts: list[tuple[CurvatureProducts, float]] = []  # with their shares of the samples
        self.scores: Tensor | None = None
        self._scored_apart = False
        self._full: CurvatureProducts | None = None
        self._stack = ExitStack()

    def __enter__(self) -> SearchRun:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    @property
    def cost(self) -> float:
        """What has been spent, in gradients of all the data; scores cost one unless graphs are built on the way."""
        return sum(share * operator.gradients for operator, share in self.parts) + self._scored_apart

    @property
    def summed(self) -> int:
        """Samples of a chunk, whose products a CPU sums one after another."""
        evaluator = self.obj.evaluator
        if evaluator.device.type != "cpu":
            return 0  # not measured there
        if evaluator.distribution is not None:
            return int(
                self.obj.n_samples
            )  # the most that a rank can hold: all ranks must stop at the same error
        batch = evaluator.batch_to_check()
        rows = max((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), default=0)
        return min(rows, evaluator.chunk_size or rows)

    def fresh(self) -> Tensor:
        """Return a random vector (n,), standard normal."""
        return self.obj.layout.normal(self.draws, torch.float64).to(self.obj.device, self.obj.dtype)

    def products(self, obj: Objective, memory: int, share: float = 1.0) -> CurvatureProducts:
        """Return the matrix over some data as an operator, whose graphs are released when the call ends."""
        operator = CurvatureProducts(obj, memory, self.matrix)
        self.parts.append((operator, share))
        return self._stack.enter_context(operator)

    def full(self) -> CurvatureProducts:
        """Return the matrix over all the data, made once."""
        if self._full is None:
            self._full = self.products(self.obj, self.graphs)
        return self._full

    @property
    def products_so_far(self) -> float:
        """Products so far, in full-data equivalents."""
        return sum(share * operator.vectors for operator, share in self.parts)

    # -- without a model --------------------------------------------------------------------------

    def lanczos(self, certify: bool, confidence: float | None = None) -> Found:
        """Run the certified search, or with ``certify=False`` the same search stopped by its residuals."""
        full = self.full()
        start, wanted = self.start, self.wanted
        if confidence is not None:
            wanted, start = replace(wanted, confidence=confidence), start[:0]
        self.limits.expected = _expected(wanted, len(start), certify)
        search: CertifiedSearch | None = None
        with self.limits.until_it_ends():
            search = CertifiedSearch(full, wanted, self.fresh, start, self.room, certify, self.summed)
            self.limits.count(search.products)
            while search.outcome == "running" and self.products_so_far < self.max_products:
                self.limits.check()
                search.step()
                self.limits.count(1, _note(search.assessment))
        why = self._why_ended(search)
        found = search.assess() if search is not None and search.known else None
        if search is None or found is None or len(found.values) == 0:
            raise self._too_early()
        if search.outcome == "limited by precision":
            why = self._resolved(search.rounding, found.values, found.errors)
        return Found(
            found.values,
            search.vectors(found),
            found.residuals,
            found.errors,
            min(found.confidence, self.wanted.confidence) if confidence is not None else found.confidence,
            LANCZOS if certify else f"{LANCZOS}, stopped by residuals",
            why,
            search.found_models(KEPT),
        )

    def _why_ended(self, search: CertifiedSearch | ModelSearch | None) -> str:
        running = search is not None and search.outcome == "running"
        return self.limits.ended or ("max_products was reached" if running else "")

    def _too_early(self) -> InputError:
        return InputError(
            f"a search must be given time for at least one product, here {self.limits.ended}; "
            "raise the deadline, or measure fewer samples with lambda_max_from_sample"
        )

    def _resolved(self, rounding: float, values: Array, errors: Array) -> str:
        """Say what the precision resolves."""
        precision = str(self.obj.dtype).removeprefix("torch.")
        why = f"{precision} resolves eigenvalues of this matrix to {rounding:.1e}"
        if zeros := int((np.abs(values) <= errors).sum()):
            why += f", by which {zeros} cannot be told from zero"
        return why

    # -- with a model -----------------------------------------------------------------------------

    def run(self, certify: bool) -> Found:
        """Search with a model of the matrix where there is one, else by Lanczos.

        A part's model serves the largest eigenvalues alone: the other end is dense in networks. There a certified
        search took 52 products with a model, without one 38, and of 60 fast ones 16 were off by more than claimed.
        """
        largest = self.wanted.which == "largest"
        if self.wanted.which == "magnitude" or (certify and not largest):
            return self.lanczos(certify)
        if self.obj.size <= 2 * (STEPS + 4 * self.wanted.k):
            return self.lanczos(certify)  # a model that nearly spans the space leaves nothing random to probe
        found = self._modelled(self.earlier, FOLLOWED, certify) if self.earlier else None
        tried = self.parts != []
        if found is None and largest and (model := self._subset_model(certify)) is not None:
            tried = True
            found = self._modelled(dict.fromkeys(self.wanted.ends, model), SUBSET, certify)
        if found is not None:
            return found
        # a search that did not end spent half of the probability of being wrong
        return self.lanczos(certify, 1 - (1 - self.wanted.confidence) / 2 if tried else None)

    def _subset_model(self, certify: bool) -> SpectralModel | None:
        """Return the Ritz pairs of the Hessian over a part of the data, None where that does not pay."""
        count = part_size(self.obj, SOLVE)
        pays = PAYS if certify else PAYS_FAST
        if count is None or count > pays * self.obj.n_samples or self.room < ROOM * STEPS:
            return None
        self.limits.expected = (FAST + 6 * certify) * self.wanted.k * len(self.wanted.ends)
        with self.limits.until_it_ends():
            full = self.full()
            self.scores = importance_scores(self.obj, full if self.matrix == "hessian" else None)
            self._scored_apart = self.scores is not None and not full.kept_bytes
            return self._ritz_model_of_part(certify)
        raise self._too_early()

    def _ritz_model_of_part(self, certify: bool) -> SpectralModel:
        """Draw a part of the data and return the Ritz pairs of its Hessian."""
        some = draw(self.obj, seed_of("part", self.seed, 0), SOLVE, scores=self.scores)
        assert some is not None
        share = some.evaluator.evaluated / self.obj.evaluator.evaluated
        kept = self.full().kept_bytes
        part = self.products(
            some, max(self.graphs - kept, 0) if kept else int(SUBSETS_SHARE * self.graphs), share
        )
        k = self.wanted.k

        def accurate(krylov: Krylov) -> bool:
            values, _, residuals = krylov.ritz()
            if len(values) < (STEPS if certify else FEW) + 2 * k:
                return False
            good = residuals <= RESIDUAL * np.abs(values).max()
            return all(
                bool(good[-k - 1 :].all() if end > 0 else good[: k + 1].all()) for end in self.wanted.ends
            )

        krylov = lanczos(part, self.fresh(), STEPS + 4 * k, self.fresh, accurate)
        part.release()
        values, turn, _ = krylov.ritz()
        return SpectralModel(like(krylov.basis, turn.T) @ krylov.basis, values)

    def _modelled(self, models: Mapping[float, SpectralModel], source: str, certify: bool) -> Found | None:
        """Search every end with its model; None where one is unlike the data or too many products are spent."""
        if not set(self.wanted.ends) <= set(models):
            return None
        full = self.full()
        level = (1 - self.wanted.confidence) / 2 / len(self.wanted.ends) if certify else None
        found = []
        for end in self.wanted.ends:
            one = self._one_end(end, full, models[end], level, source)
            if one is None:
                return None
            found.append(one)
        return self._joined(found)

    def _one_end(
        self, end: float, full: CurvatureProducts, model: SpectralModel, level: float | None, source: str
    ) -> Found | None:
        """Search one end with a model; None where it is unlike the data or too many products are spent."""
        search: ModelSearch | None = None
        with self.limits.until_it_ends():
            search = ModelSearch(
                _times(end, full),
                model if end > 0 else model.reversed(),
                self.wanted.k,
                self.wanted.tol,
                self.fresh,
                level,
                self.summed,
            )
            self.limits.count(search.products)
            while search.outcome == "running" and self.products_so_far < self.max_products:
                self.limits.check()
                before = search.products
                search.step()
                self.limits.count(search.products - before, f"{end * search.values[0]:.6g}")
        why = self._why_ended(search)
        if search is None:
            raise self._too_early()
        if search.outcome == "gave up":
            return None
        if search.outcome == "limited by precision":
            why = self._resolved(search.rounding, search.values, search.errors)
        kept = search.found_model(KEPT)
        return Found(
            end * search.values,
            search.vectors,
            search.residuals,
            search.errors,
            search.confidence if level is None else min(search.confidence, self.wanted.confidence),
            f"{DAVIDSON}, {source}",
            why,
            {end: kept if end > 0 else kept.reversed()},
        )

    def _joined(self, found: list[Found]) -> Found:
        """Join what was found at one end or two."""
        values, residuals, errors = (
            np.concatenate([getattr(one, name) for one in found])
            for name in ("values", "residuals", "errors")
        )
        vectors = torch.cat([one.vectors for one in found])
        models = {end: model for one in found for end, model in one.models.items()}
        return Found(
            values,
            vectors,
            residuals,
            errors,
            min(one.confidence for one in found),
            found[0].algorithm,
            next((one.why for one in found if one.why), ""),
            models,
        )


def _expected(wanted: Wanted, given: int, certify: bool) -> float:
    """Return about how many products a search will take: trained networks take 12 to 15 for one eigenvalue."""
    count = wanted.k * (2 if wanted.which == "both" else 1)
    first = 13.0 if certify else 10.0
    return first + 6.0 * (count - 1) + (8.0 if certify and count > 1 else 0.0) + given


def _note(found: Assessment | None) -> str:
    if found is None or len(found.values) == 0:
        return ""
    return f"{found.values[0]:.6g}, error at most {found.errors[0]:.2g}"


def _times(end: float, operator: CurvatureProducts) -> Callable[[Tensor], Tensor]:
    """Return the operator times a direction sign."""
    return operator if end > 0 else lambda v: -operator(v)
