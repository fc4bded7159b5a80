"""L(θ) on fixed data: the loss every measure looks at, its gradient and its Hessian products.

    L(θ) = (1/N) Σ_b n_b · loss(model_θ(x_b), y_b)        N = Σ_b n_b

Batches count by their number of samples. Everything is computed on detached views of the model's
parameters and on copies of its buffers, so measuring leaves the model bit-identical. As long as an
objective on the CPU lives, memory that is freed stays with the process (`sharpscope.autograd.allocator`).
"""

from __future__ import annotations

import hashlib
import math
import weakref
from copy import copy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from sharpscope.autograd.allocator import keep_freed_memory
from sharpscope.autograd.module_state import private_copy
from sharpscope.autograd.ranks import note_of_world
from sharpscope.errors import InputError, NonFiniteError, require_one_of
from sharpscope.estimate import Result
from sharpscope.objective.batches import tensors_in, update_with_tensor
from sharpscope.objective.chunking import chunk_for
from sharpscope.objective.evaluator import Evaluator, evaluator_of, not_finite
from sharpscope.objective.fingerprint import describe_callable
from sharpscope.objective.function_checks import check_function
from sharpscope.objective.loss_checks import check_batch_mean, check_mean
from sharpscope.objective.measured_data import Cost, Loss
from sharpscope.objective.measured_function import BatchLoss, Check
from sharpscope.objective.parameters import Layout, Selection, select
from sharpscope.objective.product_checks import check_products
from sharpscope.objective.transformers import HeadLoss, TransformersLoss, loss_for, token_batches


class Objective(Result):
    """The loss of a model on fixed data as a function of its flat parameter vector θ (size,).

    Parameters
    ----------
    model
        Any ``nn.Module`` on one device. It is never modified; its weights at each call are θ.
    loss
        ``loss(outputs, targets)`` returns the mean over the batch as a scalar tensor. torch's cross-entropy and
        negative log-likelihood may have class weights and ignored targets.
    batches
        A pair ``(inputs, targets)`` of tensors, an iterable of such pairs that can be read more than
        once, or a ``DataLoader`` that neither shuffles nor augments.
    mode
        ``"eval"``, or ``"train"``: batch normalisation on the statistics of each batch as given. Dropout
        is off in both unless ``dropout=True`` with ``mode="train"``; its masks are then drawn from
        ``dropout_seed`` and are the same on every call.
    params
        Names, shell patterns or a predicate (name, parameter) choosing what is measured; by default every
        trainable parameter.
    dtype
        Precision of θ and the arithmetic; by default float64 if all measured parameters are, else float32
        (half-precision weights are measured at their exact values in float32).
    check
        ``"quick"``: the loss must be a mean, and its derivatives those of what is measured, on a few samples (see
        docs/checks.md). ``"full"`` also compares them with finite differences; ``"none"`` leaves the checks out.
    chunk_size
        Samples evaluated together, by default as many as suit the processor's caches; halved where memory runs out.
        Changes rounding only. Ignored where samples of a batch interact.
    group
        Processes that measure together, ``torch.distributed.group.WORLD`` for example: every rank holds its own part
        of the data, which may be empty, and all results are those of all the data, the same on every rank. All ranks
        make the same calls. Without it an objective is of this process's data alone. See docs/distributed.md.

    Raises
    ------
    InputError
        If the loss is not a mean, depends on what is measured where autograd does not see it, or not at all; if the
        data changes between readings, or nothing is left to measure.
    NonFiniteError
        From the methods, where a loss, gradient or product is NaN or infinite.

    Examples
    --------
    A quadratic with Hessian diag(1, 3), from two samples that count equally:

    >>> model = nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]])
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> obj.hvp(torch.tensor([1.0, 1.0])).round(decimals=4)
    tensor([1., 3.])

    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Any,
        mode: str = "eval",
        *,
        dropout: bool = False,
        dropout_seed: int = 0,
        params: Selection = None,
        dtype: torch.dtype | None = None,
        chunk_size: int | None = None,
        check: Check = "quick",
        group: ProcessGroup | None = None,
    ) -> None:
        if not callable(loss):
            raise InputError(
                f"loss must be callable as loss(outputs, targets), received {type(loss).__name__}; "
                "pass for example torch.nn.functional.cross_entropy"
            )
        if chunk_size is not None and chunk_size < 1:
            raise InputError(f"chunk_size must be at least 1, received {chunk_size}; leave it at its default")

        self.evaluator = evaluator_of(
            model, loss, None, batches, mode, dropout, dropout_seed, params, dtype, group
        )
        self._keep_freed_memory()
        self._verify(check)
        if not self.evaluator.batch_dependent:
            fits = chunk_size or chunk_for(self.evaluator.held_per_sample or 0.0, self.device)
            ranks = self.evaluator.distribution
            self.evaluator.chunk_size = fits if ranks is None else int(min(ranks.counts(fits)[0]))

    def __repr__(self) -> str:
        """Return one line: the model, its size, the samples if they were counted, and how it is evaluated."""
        how = ", ".join([self.mode, str(self.dtype).removeprefix("torch.")])
        return f"L(θ) of {type(self.model).__name__}: {self.size} parameters, {how}"

    @classmethod
    def from_batch_loss(
        cls,
        model: nn.Module,
        batches: Any,
        batch_loss: BatchLoss,
        mode: str = "eval",
        *,
        dropout: bool = False,
        dropout_seed: int = 0,
        params: Selection = None,
        dtype: torch.dtype | None = None,
        check: Check = "quick",
        group: ProcessGroup | None = None,
    ) -> Objective:
        """Build an objective from ``batch_loss(model, batch) -> (mean_loss, n_samples)``.

        For graphs, language models and dict batches. ``n_samples`` (tokens, nodes, images) weighs the
        batch; batches are evaluated whole. A single batch may be given alone, as a dictionary or a pair.
        """
        self = cls.__new__(cls)
        self.evaluator = evaluator_of(
            model, None, batch_loss, batches, mode, dropout, dropout_seed, params, dtype, group
        )
        self._keep_freed_memory()
        self._verify(check)
        return self

    @classmethod
    def from_transformers(
        cls,
        model: nn.Module,
        batches: Any,
        *,
        loss: HeadLoss | None = None,
        chunk_tokens: int | Literal["auto"] | None = "auto",
        **options: Any,
    ) -> Objective:
        """Build an objective of a model of Hugging Face's transformers, with the loss that its head trains with.

        Parameters
        ----------
        batches
            A dictionary of tensors, or an iterable of them that can be read more than once: ``input_ids``,
            ``attention_mask``, ``labels``, ``pixel_values``, …, as tokenizers and collators return them. A causal
            language model without ``labels`` predicts its own inputs; padding does not count. The label −100 is
            ignored.
        loss
            ``loss(outputs, batch) -> (mean, number of labels)`` in place of the head's own, see
            `sharpscope.objective.transformers.loss_for`. It changes nothing about which tokens count.
        chunk_tokens
            Batches are cut by rows so that no part holds more tokens; None leaves them whole. By default 2048, on a
            CPU fewer for large models, so that a call can be interrupted. A product's memory grows with it.
        options
            As in `from_batch_loss`: mode, dropout, params, dtype.

        """
        head = loss_for(model) if loss is None else TransformersLoss(loss)
        parts = token_batches(model, batches, head, chunk_tokens)
        return cls.from_batch_loss(model, parts, head, **options)

    evaluator: Evaluator
    """Evaluates chunk by chunk; for measures that need more than losses, gradients and products."""

    def _keep_freed_memory(self) -> None:
        if self.device.type == "cpu":
            weakref.finalize(self, keep_freed_memory())

    def _verify(self, check: Check) -> None:
        """Check the loss and its derivative on the first samples; products are checked before the first."""
        require_one_of("check", check, get_args(Check))
        evaluator = self.evaluator
        evaluator.check = check

        def checks() -> None:
            probe = check_function(evaluator)
            evaluator.held_per_sample = probe.held_per_sample
            if check != "none" and evaluator.loss is None:
                check_batch_mean(evaluator, probe.batch)
            elif check != "none":
                check_mean(evaluator, probe.outputs, probe.batch)

        if evaluator.distribution is None:
            checks()
        else:
            evaluator.distribution.check(checks, evaluator)
        if check != "none":
            evaluator.check_products = check_products

    # -- the measured function ---------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """The model, never modified."""
        return self.evaluator.model

    @property
    def mode(self) -> str:
        """The declared mode, "eval" or "train"."""
        return self.evaluator.mode

    @property
    def layout(self) -> Layout:
        """Names and shapes of the measured parameters in the flat vector."""
        return self.evaluator.layout

    @property
    def dtype(self) -> torch.dtype:
        """Precision of θ and of the arithmetic."""
        return self.evaluator.dtype

    @property
    def device(self) -> torch.device:
        """Where θ lies and everything is computed."""
        return self.evaluator.device

    @property
    def size(self) -> int:
        """Number of parameters measured."""
        return self.evaluator.layout.size

    @property
    def n_samples(self) -> float:
        """N, the number of samples that the mean is over (for `from_batch_loss`, the sum of its weights)."""
        return self.evaluator.n_samples

    @property
    def cost(self) -> Cost:
        """Full-data evaluations asked for so far."""
        return self.evaluator.cost

    def flat(self) -> Tensor:
        """Return a copy of the point measured at, the model's current parameters, as a flat vector (size,)."""
        return self.evaluator.flat()

    def loss(self, at: Tensor | None = None) -> float:
        """Return L(θ), at the model's parameters or at a flat vector ``at`` (size,).

        At the model's own parameters a non-finite value raises `NonFiniteError`; at a given point it is
        returned, since a perturbed network may truly overflow.
        """
        value = self.evaluator.value(at)
        if at is None and not math.isfinite(value):
            raise NonFiniteError(not_finite("the loss", value))
        return value

    def gradient(self, at: Tensor | None = None) -> Tensor:
        """Return ∇L(θ) as a flat vector (size,)."""
        return self.loss_and_gradient(at)[1]

    def loss_and_gradient(self, at: Tensor | None = None) -> tuple[float, Tensor]:
        """Return L(θ) and ∇L(θ) (size,) from one forward and backward pass."""
        return self.evaluator.value_and_gradient(at)

    def hvp(self, v: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the Hessian-vector product ∇²L(θ) v, exact, by double backward.

        ``v`` is a flat vector (size,) or a block of k of them (k, size), which share one first-order graph;
        the result has its shape.
        """
        return self.evaluator.hvp(v, at)

    def subset(self, indices: Tensor, weights: Tensor | None = None) -> Objective:
        """Return the objective over chosen samples (m,) of the same data, as one batch; shares the model.

        ``weights`` (m,) say how many samples each stands for, one if left out; equal ones should be side by side.
        """
        if self.evaluator.loss is None:
            raise InputError(
                "single samples cannot be drawn from from_batch_loss batches, received indices; "
                "build the objective from (inputs, targets), or pass the batches you want"
            )
        with torch.inference_mode(False):
            return self._with(self.evaluator.subset(indices, weights))

    def with_data(self, batches: Any, weights: Tensor | None = None) -> Objective:
        """Return the same objective over other batches; shares the model.

        ``weights`` (m,) are for a single batch, see `subset`.
        """
        return self._with(self.evaluator.with_data(batches, weights))

    def at(self, point: Tensor) -> Objective:
        """Return this objective with another point (size,) in place of the model's own parameters."""
        return self._with(self.evaluator.at(point))

    def with_params(self, params: Selection = None) -> Objective:
        """Return the same objective of other parameters (``params`` as at the start) at the model's own values."""
        other = self._with(self.evaluator.with_layout(self.evaluator.layout_of(select(self.model, params))))
        if not set(other.layout.names) <= set(self.layout.names):  # else they have been checked
            other._verify(self.evaluator.check)
        return other

    def with_copy(self, dtype: torch.dtype, model: nn.Module | None = None) -> Objective:
        """Return the same objective of a private copy of its model, or of another with the same parameters.

        The copy has precision ``dtype``. Where this objective looks at another point than its model's own
        parameters (`at`), the copy of its own model is moved there.
        """
        if self.layout.shards is not None:
            raise InputError(
                f"a copy needs whole parameters, received a model sharded over {self.layout.shards.ranks.size} "
                "ranks; measure it in one process"
            )
        private = private_copy(self.model if model is None else model).to(dtype)
        if model is None and self.evaluator.centre is not None:
            values = self.layout.split(self.evaluator.centre.to(dtype))
            with torch.no_grad():
                for name, parameter in private.named_parameters():
                    if name in values:
                        parameter.copy_(values[name])
        return self._with(self.evaluator.with_model(private, dtype))

    def _with(self, evaluator: Evaluator) -> Objective:
        other = copy(self)
        other.evaluator = evaluator
        return other

    @property
    def fingerprint(self) -> str:
        """A stable hash of weights, buffers, data, loss, mode, selection and precision (16 hex digits).

        Two equal fingerprints mean the same measured function; it is stored beside every number.
        """
        digest = hashlib.sha256()
        e = self.evaluator
        parameters = [(name, e.own_parameter(name, p)) for name, p in self.model.named_parameters()]
        for name, tensor in [*parameters, *self.model.named_buffers()]:
            digest.update(name.encode())
            update_with_tensor(digest, tensor)
        if e.centre is not None:
            update_with_tensor(digest, self.layout.own_rows(e.centre)[0])
        what = e.loss if e.loss is not None else e.batch_loss
        data = digest if e.distribution is None else hashlib.sha256()  # of this rank's part
        data.update(e.batches.digest.encode())
        if e.weights is not None:
            update_with_tensor(data, e.weights)
        # batch normalisation sees a batch as given, so that where batches are cut belongs to the function
        cuts = tuple(map(_rows, e.batches)) if self.mode == "train" else ""
        data.update(repr(cuts).encode())
        if e.distribution is not None:
            digest.update(e.distribution.digest(data.hexdigest()).encode())
        digest.update(
            repr(
                (describe_callable(what), self.protocol, self.layout.names, type(self.model).__qualname__)
            ).encode()
        )
        shards = self.layout.shards
        whole = digest.hexdigest() if shards is None else shards.ranks.digest(digest.hexdigest())
        return whole[:16]

    @property
    def protocol(self) -> dict[str, object]:
        """How the function is evaluated: mode, dropout and precision, as stored beside every number."""
        shared = self.evaluator.distribution
        return {
            "mode": self.mode,
            "dropout": self.evaluator.dropout,
            **({"dropout_seed": self.evaluator.dropout_seed} if self.evaluator.dropout else {}),
            "dtype": str(self.dtype).removeprefix("torch."),
            **(note_of_world() if shared is None else shared.protocol),
        }


def _rows(batch: Any) -> int:
    """Return the number of rows of a batch's last tensor: the targets of a pair."""
    return next((len(tensor) for tensor in reversed(tensors_in(batch)) if tensor.ndim), 0)
