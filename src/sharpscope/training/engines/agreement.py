"""Whether one operation on k models gives each the bits of its own, found out by trying.

Which order a sum takes depends on shapes, on where tensors begin and on the number of threads, but not on the
numbers: random ones tell. Most shapes agree; some do not, such as Intel's batched products of a single output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from sharpscope.seeding import generator
from sharpscope.training.engines.stack import room

_FEWEST, _MOST, _NUMBERS = 4, 64, 1 << 16  # trials: two orders of a short sum often round alike

Operation = Callable[..., Sequence[Tensor]]


def agrees(name: str, k: int, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> bool:
    """Say whether the named operation may be carried out for k models at once, given the shapes of one's operands.

    Operands whose parts do not lie back to back never agree: the operation would copy them first.
    """
    return k > 1 and _tried(name, k, tuple(shapes), dtype, torch.get_num_threads())


@lru_cache(maxsize=1024)
def _tried(name: str, k: int, shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, threads: int) -> bool:
    together, alone = _OPERATIONS[name]
    draws, like = generator("agreement", name, shapes), torch.empty(0, dtype=dtype)
    operands = [room(k, shape, like) for shape in shapes]
    if not all(operand.dense for operand in operands):
        return False
    numbers = sum(operand.whole.numel() for operand in operands)
    for _ in range(max(_FEWEST, min(_MOST, _NUMBERS // numbers))):
        for operand in operands:
            operand.whole.copy_(torch.randn(operand.whole.shape, generator=draws, dtype=dtype))
        found = together(*(operand.whole for operand in operands))
        for i in range(k):
            expected = alone(*(operand.parts[i] for operand in operands))
            if not all(torch.equal(one, whole[i]) for one, whole in zip(expected, found, strict=True)):
                return False
    return True


def _products(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Sequence[Tensor]:
    """Everything that `sharpscope.training.engines.layers.Linear` computes for all models at once."""
    return (
        torch.bmm(x, weight.transpose(1, 2)),
        torch.baddbmm(bias[:, None], x, weight.transpose(1, 2)),
        torch.bmm(d.transpose(1, 2), x),
        torch.baddbmm(weight, d.transpose(1, 2), x),
        torch.bmm(d, weight),
        d.sum(1),
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor, d: Tensor) -> Sequence[Tensor]:
    return (
        torch.mm(x, weight.t()),
        torch.addmm(bias, x, weight.t()),
        torch.mm(d.t(), x),
        torch.addmm(weight, d.t(), x),
        torch.mm(d, weight),
        d.sum(0),
    )


def _log_softmax(z: Tensor, d: Tensor) -> Sequence[Tensor]:
    log_p = torch.log_softmax(z, -1)
    return log_p, torch.ops.aten._log_softmax_backward_data(d, log_p, z.ndim - 1, z.dtype)


_OPERATIONS: dict[str, tuple[Operation, Operation]] = {
    "products": (_products, _product),
    "log_softmax": (_log_softmax, _log_softmax),
}
