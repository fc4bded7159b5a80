"""A stable description of a loss, for the fingerprint of a measured function.

Two losses with one description are the same function; a description is the same in every process.
"""

from __future__ import annotations

import dis
import functools
import hashlib
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from sharpscope.objective.batches import update_with_tensor

_SIMPLE = (int, float, complex, str, bytes, bool, type(None))


def describe_callable(function: Any) -> str:
    """Return a description of a loss that is the same in every process and changes with its meaning.

    Of a module its class, settings and tensors; of a function its code and the values that it takes from its
    defaults, its closure and its module; of any other callable the code of its class and its attributes.

    >>> scaled = lambda scale: lambda outputs, targets: scale * (outputs - targets).square().mean()
    >>> describe_callable(scaled(1.0)) == describe_callable(scaled(1.0)) != describe_callable(scaled(2.0))
    True
    """
    return _describe(function, 0)


def _describe(value: Any, depth: int) -> str:
    if isinstance(value, _SIMPLE):
        return repr(value)
    if isinstance(value, Tensor):
        digest = hashlib.sha256()
        update_with_tensor(digest, value)
        return f"tensor[{digest.hexdigest()[:8]}]"
    if isinstance(value, list | tuple):
        return f"({', '.join(_describe(item, depth + 1) for item in value)})"
    if isinstance(value, dict):
        entries = (f"{key!s}: {_describe(item, depth + 1)}" for key, item in sorted(value.items(), key=str))
        return f"{{{', '.join(entries)}}}"
    if depth > 4:  # a closure may refer to itself
        return type(value).__qualname__
    if isinstance(value, functools.partial):
        keywords = sorted(value.keywords.items())
        given = ", ".join(f"({key!r}, {_describe(item, depth + 1)})" for key, item in keywords)
        return f"partial({_describe(value.func, depth + 1)}, {_describe(value.args, depth + 1)}, [{given}])"
    if isinstance(value, nn.Module):
        return _module(value, depth)
    if isinstance(value, MethodType):
        return f"{_describe(value.__func__, depth + 1)} of {_describe(value.__self__, depth + 1)}"
    if isinstance(value, FunctionType):
        return _function(value, depth)
    call = vars(type(value)).get("__call__")
    if isinstance(call, FunctionType):
        return f"{_function(call, depth)}{_describe(dict(vars(value)), depth + 1)}"
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _module(module: nn.Module, depth: int) -> str:
    settings = [
        (name, key, repr(value))
        for name, part in module.named_modules()
        for key, value in sorted(vars(part).items())
        if isinstance(value, _SIMPLE) and key != "training" and not key.startswith("_")
    ]
    tensors = [(name, _describe(tensor, depth + 1)) for name, tensor in module.state_dict().items()]
    digest = hashlib.sha256(repr((settings, tensors)).encode()).hexdigest()[:8]
    return f"{type(module).__module__}.{module!r}[{digest}]"


def _function(function: FunctionType, depth: int) -> str:
    code = function.__code__
    body = hashlib.sha256(repr(_code(code)).encode())
    if not function.__module__.startswith("torch."):  # torch's own functions are known by their name and code
        taken = [function.__defaults__ or (), function.__kwdefaults__ or {}]
        taken += [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        names = sorted({step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"})
        taken += [function.__globals__[name] for name in names if name in function.__globals__]
        body.update("".join(_describe(value, depth + 1) for value in taken).encode())
    return f"{function.__module__}.{function.__qualname__}[{body.hexdigest()[:8]}]"


def _code(code: CodeType) -> tuple[Any, ...]:
    constants = [_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return code.co_code, [c for c in constants if isinstance(c, (*_SIMPLE, tuple))], code.co_names


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
