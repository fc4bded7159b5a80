"""The losses a run may train with: mean over the batch, shapes checked before they can broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from sharpscope.errors import InputError, suggestion
from sharpscope.models.own_code import find_own

if TYPE_CHECKING:
    from torch import Tensor

    from sharpscope.data import Dataset

Loss = Callable[["Tensor", "Tensor"], "Tensor"]


def loss_function(name: str) -> Loss:
    """Return the named loss: a function of outputs and targets giving the mean over the batch, a scalar.

    - ``cross_entropy``: −log softmax(outputs)[target]; outputs (n, classes), targets (n,) int64; for
      sequences outputs (n, classes, tokens) and targets (n, tokens).
    - ``mse``: (output − target)², averaged over every entry; outputs and targets (n, d) of real numbers.
    - ``package.module:function``: a loss of one's own, imported from the current folder or the search path. It must
      return the mean over the batch, because batches are weighted by their size.

    Raises `InputError` for another name; the returned function raises it for other shapes.

    >>> import torch
    >>> loss_function("mse")(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)).item()
    5.0
    """
    if ":" in name:
        return _own_loss(name)
    try:
        return _LOSSES[name]
    except KeyError:
        raise InputError(
            f"there is no loss {name!r}; {suggestion(name, _LOSSES)}choose one of {', '.join(_LOSSES)}."
        ) from None


def smoothed_cross_entropy(smoothing: float) -> Loss:
    """Return the cross-entropy to smoothed labels: (1 − s) on the label and s/K on each of K classes beside.

    Szegedy et al. (2016), section 7; ``torch.nn.functional.cross_entropy`` with ``label_smoothing``.

    >>> outputs, label = torch.tensor([[0.0, 2.0]]), torch.tensor([1])
    >>> round(smoothed_cross_entropy(0.2)(outputs, label).item(), 6)  # 0.126928 + 0.2 / 2 * 2
    0.326928
    """

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        _check_labels(outputs, targets)
        return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)

    return loss


def check_own_loss(name: str, loss: Loss, dataset: Dataset, outputs: Tensor) -> None:
    """Raise `InputError` unless a loss of one's own gives a scalar of real numbers that depends on the outputs."""
    outputs = outputs.detach().requires_grad_()
    targets = dataset.train.targets[: len(outputs)]
    try:
        value = loss(outputs, targets)
    except Exception as error:
        raise InputError(
            f"the loss {name} must take outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}, but "
            f"raised {type(error).__name__} ({error}); make it fit the data."
        ) from error
    if (
        not isinstance(value, torch.Tensor)
        or value.ndim
        or not value.is_floating_point()
        or not value.requires_grad
    ):
        found = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(
            f"the loss {name} must return the mean over the batch, a differentiable scalar of real numbers; received "
            f"{found}: return losses.mean()."
        )


def _own_loss(name: str) -> Loss:
    found: Any = find_own(name, "loss", "a loss of outputs and targets", torch.nn.Module)
    if isinstance(found, type):
        found = found()  # a loss module, such as a subclass of torch.nn.Module
    return found  # type: ignore[no-any-return]


def constant_loss(name: str, targets: Tensor) -> float | None:
    """Return the least mean loss over the targets that one answer to every sample can have.

    For ``cross_entropy`` the entropy of the classes' shares, −Σ p log p, which the logits log p reach: log(classes)
    where all are equally common. For ``mse`` the targets' mean squared distance from their mean. None for a loss of
    one's own. A network whose training loss is no lower has learned nothing from its inputs.

    >>> import torch
    >>> constant_loss("cross_entropy", torch.tensor([0, 1, 0, 1]))
    0.6931471805599453
    >>> constant_loss("mse", torch.tensor([[1.0], [3.0]]))
    1.0
    """
    if ":" in name:
        return None
    if name == "mse":
        return targets.double().var(dim=0, correction=0).mean().item()
    counts = targets.flatten().bincount().double()
    shares = counts[counts > 0] / targets.numel()
    return -(shares * shares.log()).sum().item()


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_labels(outputs, targets)
    return functional.cross_entropy(outputs, targets)


def _check_labels(outputs: Tensor, targets: Tensor) -> None:
    fitting = outputs.ndim in (2, 3) and targets.shape == outputs.shape[:1] + outputs.shape[2:]
    if not fitting or targets.is_floating_point():
        raise InputError(
            f"cross-entropy needs outputs (n, classes) and integer class labels (n,); received outputs "
            f"{tuple(outputs.shape)} and {targets.dtype} targets {tuple(targets.shape)}."
        )


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:  # (n,) against (n, 1) would broadcast to (n, n), silently
        raise InputError(
            f"the mean squared error needs outputs and targets of one shape; received outputs "
            f"{tuple(outputs.shape)} and targets {tuple(targets.shape)}: let the model return (n, 1)."
        )
    return functional.mse_loss(outputs, targets)


_LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse}
