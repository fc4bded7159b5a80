"""Objects of the user's own: ``package.module:name``, imported from the current folder or the search path."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sharpscope.errors import InputError, suggestion

LIBRARIES = frozenset(
    (
        *(
            "torch",
            "numpy",
            "scipy",
            "pandas",
            "pyarrow",
            "safetensors",
            "pydantic",
            "typer",
            "click",
            "rich",
        ),
        *(
            "sklearn",
            "altair",
            "vl_convert",
            "jinja2",
            "psutil",
            "huggingface_hub",
            "transformers",
            "accelerate",
        ),
        *("ray", "submitit", "cloudpickle", "pip", "setuptools", "sharpscope"),
    )
)
"""Libraries that sharpscope runs on. Their classes may be models; none of their functions is a factory of one."""


def find_own(name: str, kind: str, makes: str, base: type | None = None) -> Callable[..., Any]:
    """Return the function or class that ``package.module:name`` stands for, after importing its module.

    ``kind`` and ``makes`` say in a refusal what is named and what it has to return, such as ``model`` and ``a
    model``; with ``base``, a class must be a subclass of it. Importing a module runs its code, so this is called only
    for what the user has asked to train, and standard error says so. The function or class must be written in that
    module or its package. Modules of Python's standard library are refused unimported, and so are functions of the
    libraries that sharpscope runs on: ``os:system`` and ``torch.hub:load`` are no models. Raises InputError for all
    of these, and for a module that cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    package = module_name.partition(".")[0]
    if module_name.endswith(".py"):
        right = f"{module_name.removesuffix('.py').replace('/', '.')}:{attribute}"
        raise InputError(f"The {kind} {name} must name a module, not its file; write {right}.")
    if package in sys.stdlib_module_names or package.startswith("_"):
        raise InputError(
            f"The {kind} {name} must be of a module of your own, and {package} belongs to Python; name another."
        )
    try:
        with current_folder_importable(), redirect_stdout(sys.stderr):  # output is the command's own
            if find_spec(package) is not None:
                _announce(module_name, f"the {kind} {name}")
            module = import_module(module_name)
    except (Exception, SystemExit) as error:  # a script may end itself, as argparse does
        raise InputError(
            f"The {kind} {name} names the module {module_name!r}, which cannot be imported "
            f"({type(error).__name__}: {error}); run from its folder or correct the name."
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise InputError(
            f"The module {module_name} has no {attribute!r}; {suggestion(attribute, vars(module))}name a function or "
            "class that it defines."
        )
    if not (inspect.isfunction(found) or inspect.isclass(found)):
        raise InputError(
            f"The {kind} {name} must be a function or class that returns {makes}, "
            f"received {type(found).__name__}; name the factory."
        )
    if found.__module__.partition(".")[0] != package:
        raise InputError(
            f"The {kind} {name} must be written in {module_name}, and it comes from {found.__module__}; "
            "name it there."
        )
    if inspect.isfunction(found) and package in LIBRARIES:
        raise InputError(
            f"The {kind} {name} must be a function of a module of your own, and {package} is a library; write a "
            "function that calls it."
        )
    if base is not None and inspect.isclass(found) and not issubclass(found, base):
        raise InputError(
            f"The {kind} {name} must be a subclass of {base.__module__}.{base.__name__} or a function, received "
            f"{found.__name__}; name another."
        )
    return found


@functools.cache
def _announce(module_name: str, what: str) -> None:
    """Say on standard error, once, that a module's code is about to run."""
    print(f"importing the module {module_name} for {what}, which runs its code", file=sys.stderr, flush=True)


def takes(function: Callable[..., Any], argument: str) -> bool:
    """Return whether a function has an argument of that name."""
    try:
        return argument in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


def call_own(name: str, kind: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """Call a function of the user's own; raise InputError where it does not take the options, or raises."""
    try:
        inspect.signature(function).bind(*given, **options)
    except ValueError:
        pass  # some builtins have no signature
    except TypeError as error:
        received = ", ".join(options) or "none"
        raise InputError(
            f"The {kind} factory {name} has the signature {inspect.signature(function)}, received the options "
            f"{received} ({error}); correct the options."
        ) from None
    try:
        with redirect_stdout(sys.stderr):
            return function(*given, **options)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"The {kind} factory {name} raised {type(error).__name__} ({error}); correct it or its options."
        ) from error


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Put the current folder first on the search path for modules, and take it off again."""
    folder = os.getcwd()
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)
