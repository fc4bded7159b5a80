"""The losses a run may train with: mean over the batch, shapes checked before they can broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.nn import functional

from sharpscope.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]


def loss_function(name: str) -> Loss:
    """Return the named loss: a function of outputs and targets giving the mean over the batch, a scalar.

    - ``cross_entropy``: −log softmax(outputs)[target]; outputs (n, classes), targets (n,) int64.
    - ``mse``: (output − target)², averaged over every entry; outputs and targets (n, d) of real numbers.

    Raises `InputError` for another name; the returned function raises it for other shapes.

    >>> import torch
    >>> loss_function("mse")(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)).item()
    5.0
    """
    try:
        return _LOSSES[name]
    except KeyError:
        raise InputError(f"there is no loss {name!r}; choose one of {', '.join(_LOSSES)}.") from None


def constant_loss(name: str, targets: Tensor) -> float:
    """Return the least mean loss over the targets that one answer to every sample can have.

    For ``cross_entropy`` the entropy of the classes' shares, −Σ p log p, which the logits log p reach: log(classes)
    where all are equally common. For ``mse`` the targets' mean squared distance from their mean. A network whose
    training loss is no lower has learned nothing from its inputs.

    >>> import torch
    >>> constant_loss("cross_entropy", torch.tensor([0, 1, 0, 1]))
    0.6931471805599453
    >>> constant_loss("mse", torch.tensor([[1.0], [3.0]]))
    1.0
    """
    if name == "mse":
        return targets.double().var(dim=0, correction=0).mean().item()
    counts = targets.bincount().double()
    shares = counts[counts > 0] / len(targets)
    return -(shares * shares.log()).sum().item()


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1] or targets.is_floating_point():
        raise InputError(
            f"cross-entropy needs outputs (n, classes) and integer class labels (n,); received outputs "
            f"{tuple(outputs.shape)} and {targets.dtype} targets {tuple(targets.shape)}."
        )
    return functional.cross_entropy(outputs, targets)


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:  # (n,) against (n, 1) would broadcast to (n, n), silently
        raise InputError(
            f"the mean squared error needs outputs and targets of one shape; received outputs "
            f"{tuple(outputs.shape)} and targets {tuple(targets.shape)}: let the model return (n, 1)."
        )
    return functional.mse_loss(outputs, targets)


_LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse}
