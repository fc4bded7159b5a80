"""The layout of the package, checked: layers are import-linter's matter, the rest stands here."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import grimp
import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sharpscope"
FILES = sorted(PACKAGE.rglob("*.py"))

RETIRED = {
    # the word that an earlier layout had: what stands in its place
    "drawing": "importance_sampling",
    "influences": "importance_scores",
    "strata": "stratified_sample",
    "leaders": "ritz_vectors",
    "mates": "cluster",
    "crowd": "cluster",
    "doubt": "safety_factor",
    "opinion": "cross_check",
    "second_look": "deflated_probe",
    "departure": "secant_update",
    "explains": "reduces_residual",
    "off": "project_out",
    "inner": "dot",
    "length": "norm",
    "in_smaller_chunks_if_need_be": "retry_with_smaller_chunks",
    "climb": "ascent",
    "Question": "Request",
    "Answer": "Response",
    "Ascending": "Ascent",
    "to_the_top": "lbfgs_ascent",
    "Place": "Iterate",
    "_Stand": "ActiveSet",
    "taking": "table",
    "lockstep": "batched",
    "together": "batched",
    "moved": "at",
    "over": "with_data",
    "spent": "cost",
    "Spent": "Cost",
    "coupled": "batch_dependent",
    "seats": "worker_slots",
    "Seat": "WorkerSlot",
    "hire": "request",
    "miss": "start_failed",
    "part": "release",
    "lose": "lost",
    "mailbox": "message_log",
    "surroundings": "worker_environment",
    "litter": "garbage",
    "doomed": "trash",
    "bury": "reap",
    "death_sentence": "exit_reason",
    "last_words": "log_tail",
    "Heart": "Heartbeat",
    "Watch": "Liveness",
    "conduct": "run",
    "programme": "plan",
    "Programme": "Plan",
    "preflight": "validate",
    "mending": "maintenance",
    "mentions": "column_check",
    "member": "run_state",
    "Member": "RunState",
    "compatible": "batching_key",
    "preconditions": "validate",
    "rooms": "buffer_pool",
    "agreement": "bitwise_check",
    "cautions": "caveats",
    "Caution": "Caveat",
    "outlook": "would_change",
    "told": "formatted",
    "signed": "direction_sign",
    "subject": "target",
    "Subject": "Target",
    "placement": "executor_options",
    "Placement": "ExecutorOptions",
}
"""Words that named modules, classes, functions or methods once, with the field's word that replaced each."""


GENERIC = {
    *(
        "off",
        "inner",
        "length",
        "part",
        "miss",
        "lose",
        "over",
        "moved",
        "taking",
        "together",
        "member",
        "rooms",
    ),
    *("Place", "Question", "Answer"),
}
"""Retired words that are plain English too: they may name a variable, never a module, class or function."""

EXCEPTIONS = {
    ("analysis", "strata"): "the statistical term for groups within which values are compared",
    ("analysis", "agreement"): "the statistical term for concordance",
    ("analysis", "departure"): "the statistical term for a distance from a mean",
}
"""Uses of a retired word in another, standard sense: (package, word) and the reason."""


@cache
def _names(path: Path) -> tuple[tuple[str, int, bool], ...]:
    """Return every name that a file gives: (name, line, whether to a module, class or function)."""
    names = [(path.stem, 1, True)]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append((node.name, node.lineno, True))
        elif isinstance(node, ast.arg):
            names.append((node.arg, node.lineno, False))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append((node.attr, node.lineno, False))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.id, node.lineno, False))
    return tuple(names)


def test_five_files_lie_at_the_root():
    assert sorted(p.name for p in PACKAGE.glob("*.py")) == [
        "__init__.py",
        "__main__.py",
        "errors.py",
        "estimate.py",
        "seeding.py",
    ]


def test_no_file_is_over_400_lines_and_few_are_under_60():
    lines = {str(p.relative_to(PACKAGE)): len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert {name: n for name, n in lines.items() if n > 400} == {}
    short = {name: n for name, n in lines.items() if n < 60}
    assert len(short) < 40, short


def test_every_folder_says_what_is_in_it():
    for folder in {p.parent for p in FILES}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        assert text, f"{folder.relative_to(ROOT)}/__init__.py has no docstring"


@pytest.mark.parametrize("word", sorted(RETIRED))
def test_a_retired_word_names_nothing(word: str):
    found = [
        f"{p.relative_to(PACKAGE)}:{line} {name}"
        for p in FILES
        for name, line, defines in _names(p)
        if name.strip("_") == word.strip("_")
        and (defines or word not in GENERIC)
        and (_package(p), word) not in EXCEPTIONS
    ]
    assert found == [], f"{word!r} is {RETIRED[word]!r} now"


def test_no_two_public_classes_share_a_name():
    where: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    # each framework's callback bears the same name in its own module, as users import it from there
    where.pop("SharpnessCallback")
    assert {name: places for name, places in where.items() if len(places) > 1} == {}


def test_modules_import_each_other_in_no_circle():
    graph = grimp.build_graph("sharpscope", exclude_type_checking_imports=True)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    # A package's face hands on names of its own modules; an import of the face from inside the package would be a
    # circle that Python bears only by luck, so faces count like any other module.
    assert _circles(imports) == []


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(imports.get(module, ())):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            component = [stack.pop()]
            while component[-1] != module:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(imports):
        if module not in order:
            visit(module)
    return found


def test_a_circle_is_found():
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


_THEIRS = re.compile(r"^_(?!_)")
_TORCH = {
    *dir(torch),
    *dir(torch.Tensor),
    *dir(nn.Module()),
    *dir(nn.LSTM(1, 1)),
    *dir(torch.optim.Optimizer),
}
"""Names of torch itself, which it leaves private and the package needs."""


def _own_names(tree: ast.Module) -> set[str]:
    """Return private names that a module defines itself: attributes, methods, functions, fields, slots."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def _private_names_by_package() -> dict[str, set[str]]:
    """Return the private names that each package of ours defines."""
    defined: dict[str, set[str]] = {}
    for path in FILES:
        names = {n for n in _own_names(ast.parse(path.read_text(encoding="utf-8"))) if _THEIRS.match(n)}
        defined.setdefault(_package(path), set()).update(names)
    return defined


def _package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def test_no_private_name_of_another_package_is_used():
    defined = _private_names_by_package()
    everywhere = set().union(*defined.values())
    found = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = defined[_package(path)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sharpscope"):
                found += [
                    f"{path.relative_to(PACKAGE)}:{node.lineno} imports {alias.name}"
                    for alias in node.names
                    if _THEIRS.match(alias.name)
                ]
            elif (
                isinstance(node, ast.Attribute)
                and _THEIRS.match(node.attr)
                and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
                and node.attr in everywhere - own - _TORCH
            ):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} uses .{node.attr}")
    assert found == []
