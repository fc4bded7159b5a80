"""One search for eigenvalues from its first product to what is known when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.autograd.vectors import dot
from sharpscope.curvature.call_limits import CallLimits
from sharpscope.curvature.certified_search import CertifiedSearch
from sharpscope.curvature.davidson import SecantUpdate, SubsetDavidson
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory, budget
from sharpscope.curvature.wanted import Assessment, Wanted
from sharpscope.errors import InputError
from sharpscope.objective.importance_sampling import draw, importance_scores, part_size
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator, seed_of

SOLVE, BEGIN = 0.1, 0.25
"""Share of the data that the fast search solves its corrections on, and the share of that on which it begins. A
prototype took a twentieth (two or three products of all the data for the MLP of benchmarks/problems.py); a tenth
leaves room for data of a few thousand samples."""

PAYS = 0.15
"""Largest share of the data that the subset may be for the fast search to use one: with a quarter (500 of 2 000
images for VGG-11) it took 24 gradients where Lanczos took 17."""

VECTORS, VECTORS_SHARE = 4 * 2**30, 0.25
"""Bytes that a search's own vectors may take, and their share of a memory budget where one is given."""

ENOUGH, MOST_FOR_VECTORS = 24, 0.75
"""Vectors that a certified search of a trained network needs for one eigenvalue (13 to 15, and its Ritz vectors), and
the largest share of the budget that they may take from the graphs: a search that must restart with eleven vectors did
not certify one in 200 products."""

FAST = 6
"""About how many products a fast search takes for one eigenvalue: 5 to 7 on trained networks."""

SUBSETS_SHARE = 0.5
"""Share of the budget for graphs that the fast search's subsets may take: they are multiplied ten times for every
product of all the data, which gets the rest."""

LANCZOS, DAVIDSON = "lanczos", "block davidson, subset-preconditioned"


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
    update: Mapping[float, SecantUpdate] = field(default_factory=dict)


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
        known: Mapping[float, SecantUpdate],
        scores: Tensor | None,
    ) -> None:
        self.obj, self.wanted, self.seed, self.max_products = obj, wanted, seed, max_products
        self.matrix, self.limits = matrix, limits
        self.start, self.known, self._given_scores = start, known, scores
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
        self._stack = ExitStack()

    def __enter__(self) -> SearchRun:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    @property
    def cost(self) -> float:
        """What has been spent, in gradients of all the data; scores cost one."""
        return sum(share * operator.gradients for operator, share in self.parts) + (self.scores is not None)

    def fresh(self) -> Tensor:
        """Return a random vector (n,), standard normal."""
        return self.obj.layout.normal(self.draws, torch.float64).to(self.obj.device, self.obj.dtype)

    def products(self, obj: Objective, memory: int, share: float = 1.0) -> CurvatureProducts:
        """Return the matrix over some data as an operator, whose graphs are released when the call ends."""
        operator = CurvatureProducts(obj, memory, self.matrix)
        self.parts.append((operator, share))
        return self._stack.enter_context(operator)

    @property
    def products_so_far(self) -> float:
        """Products so far, in full-data equivalents."""
        return sum(share * operator.vectors for operator, share in self.parts)

    # -- certified --------------------------------------------------------------------------------

    def certified(self, start: Tensor | None = None, certify: bool = True) -> Found:
        """Run the certified search, or with ``certify=False`` the same search stopped by its residuals."""
        full = self.parts[0][0] if self.parts else self.products(self.obj, self.graphs)
        start = self.start if start is None else start
        self.limits.expected = _expected(self.wanted, len(start), certify)
        search: CertifiedSearch | None = None
        with self.limits.until_it_ends():
            search = CertifiedSearch(full, self.wanted, self.fresh, start, self.room, certify)
            self.limits.count(search.products)
            while search.outcome == "running" and self.products_so_far < self.max_products:
                self.limits.check()
                search.step()
                self.limits.count(1, _note(search.assessment))
        running = search is not None and search.outcome == "running"
        why = self.limits.ended or ("max_products was reached" if running else "")
        found = search.assess() if search is not None and search.known else None
        if search is None or found is None or len(found.values) == 0:
            raise self._too_early()
        if search.outcome == "limited by precision":
            precision = str(self.obj.dtype).removeprefix("torch.")
            why = f"{precision} resolves eigenvalues of this matrix to {search.rounding:.1e}"
            if zeros := int((np.abs(found.values) <= found.errors).sum()):
                why += f", by which {zeros} cannot be told from zero"
        return Found(
            found.values,
            search.vectors(found),
            found.residuals,
            found.errors,
            found.confidence,
            LANCZOS if certify else f"{LANCZOS}, stopped by residuals",
            why,
        )

    # -- fast -------------------------------------------------------------------------------------

    def fast(self) -> Found:
        """Run the subset-preconditioned search where a subset pays, elsewhere Lanczos stopped by its residuals."""
        count = part_size(self.obj, SOLVE)
        if count is None or count > PAYS * self.obj.n_samples:
            return self.certified(certify=False)
        self.limits.expected = FAST * self.wanted.k * len(self.wanted.ends)
        with self.limits.until_it_ends():
            self.scores = self._importance()
        if self.limits.ended:
            raise self._too_early()
        some = draw(self.obj, seed_of("part", self.seed, 0), SOLVE, scores=self.scores)
        few = draw(self.obj, seed_of("part", self.seed, 0), BEGIN * SOLVE, scores=self.scores)
        assert some is not None
        share = some.evaluator.evaluated / self.obj.evaluator.evaluated
        room = int(SUBSETS_SHARE * self.graphs)
        full = self.products(self.obj, self.graphs - room)
        subset = self.products(some, int(0.8 * room), share)
        begin = subset
        if few is not None and 2 * few.evaluator.evaluated <= some.evaluator.evaluated:
            begin = self.products(
                few, int(0.2 * room), few.evaluator.evaluated / self.obj.evaluator.evaluated
            )
        found = []
        for end in self.wanted.ends:
            one = self._davidson(end, full, subset, begin)
            if one is None:
                return self.certified(self.start)
            found.append(one)
        return self._joined(found)

    def _importance(self) -> Tensor | None:
        """Return the scores that an earlier result was drawn by, so that the same samples are drawn, or new ones."""
        given = self._given_scores
        if given is not None and len(given) == self.obj.n_samples:
            return given
        return importance_scores(self.obj)

    def _davidson(
        self, end: float, full: CurvatureProducts, subset: CurvatureProducts, begin: CurvatureProducts
    ) -> Found | None:
        """Search one end with a subset; None where it is no likeness of the data."""
        of_full, of_subset, of_begin = (_times(end, operator) for operator in (full, subset, begin))
        search: SubsetDavidson | None = None
        with self.limits.until_it_ends():
            search = SubsetDavidson(
                of_full, of_subset, of_begin, self.wanted.k, self.wanted.tol, self.fresh, self.start,
                self.known.get(end),
            )  # fmt: skip
            if not search.alike:
                return None
            while search.outcome == "running" and self.products_so_far < self.max_products:
                before = self.products_so_far
                search.step()
                self.limits.count(self.products_so_far - before)
                self.limits.check()
        if search is None or not search.rounds:
            raise self._too_early()
        why = self.limits.ended or ("max_products was reached" if search.outcome == "running" else "")
        whole = self.start.numel() and not self.limits.ended
        updates = {end: search.observed()} if whole else {}
        return Found(
            end * search.values,
            search.vectors,
            search.residuals,
            search.errors,
            float("nan"),
            DAVIDSON,
            why,
            updates,
        )

    def _too_early(self) -> InputError:
        return InputError(
            f"a search must be given time for at least one product, here {self.limits.ended}; "
            "raise the deadline, or measure fewer samples with lambda_max_from_sample"
        )

    def _joined(self, found: list[Found]) -> Found:
        """Join what was found at two ends; for the magnitude, a pair found from both counts once."""
        values, residuals, errors = (
            np.concatenate([getattr(one, name) for one in found])
            for name in ("values", "residuals", "errors")
        )
        vectors = torch.cat([one.vectors for one in found])
        order = np.arange(len(values))
        if self.wanted.which == "magnitude":
            k = self.wanted.k
            twice = dot(vectors[k:], vectors[:k]).square().sum(1).cpu().numpy() > 0.5
            sizes = np.where(np.concatenate([np.zeros(k, dtype=bool), twice]), -1.0, np.abs(values))
            order = np.argsort(-sizes, kind="stable")[:k]
        updates = {end: update for one in found for end, update in one.update.items()}
        return Found(
            values[order],
            vectors[torch.as_tensor(order)],
            residuals[order],
            errors[order],
            float("nan"),
            DAVIDSON,
            next((one.why for one in found if one.why), ""),
            updates,
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
