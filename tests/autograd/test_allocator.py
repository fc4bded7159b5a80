"""Freed memory stays with the process inside the context and goes back after it; run in processes of their own."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import textwrap
from contextlib import suppress

import pytest
import torch

from sharpscope import Objective
from sharpscope.autograd.allocator import _KEEPER, freed_memory_kept, tunes_malloc

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tunes_malloc(os.environ), reason="for glibc's allocator as it comes"
)

BLOCK = 64 * 2**20
PAGES = BLOCK // 4096

PROLOGUE = f"""
    import resource
    import numpy as np
    import psutil
    from sharpscope.autograd.allocator import freed_memory_kept

    def faults(times):
        "Page faults of allocating, filling and freeing a block so many times."
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(times):
            np.ones({BLOCK}, dtype=np.uint8)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    resident = psutil.Process().memory_info
"""


def run(script: str, **environment: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROLOGUE) + textwrap.dedent(script)],
        env={**os.environ, **environment, "NUMPY_MADVISE_HUGEPAGE": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [int(number) for number in done.stdout.split()]


def test_a_freed_block_is_used_again_without_page_faults() -> None:
    outside, first, again, after = run(
        """
        print(faults(5))
        with freed_memory_kept():
            print(faults(1), faults(5))
        print(faults(5))
        """
    )
    assert outside > 4 * PAGES
    assert first > PAGES / 2
    assert again < PAGES / 10
    assert after > 4 * PAGES


def test_leaving_the_last_context_gives_the_memory_back() -> None:
    before, inside, nested, after = run(
        """
        print(resident().rss)
        with freed_memory_kept():
            with freed_memory_kept():
                many = [np.ones(BLOCK, dtype=np.uint8) for _ in range(6)]
                pin = bytes(10)  # something small and alive above what is freed
                del many
                print(resident().rss)
            print(resident().rss)
        print(resident().rss)
        """.replace("BLOCK", str(BLOCK))
    )
    assert inside - before > 5 * BLOCK
    assert nested - before > 5 * BLOCK
    assert after - before < BLOCK


def test_a_tuned_environment_is_left_alone() -> None:
    (again,) = run("with freed_memory_kept(): print(faults(5))", MALLOC_MMAP_THRESHOLD_="65536")
    assert again > 4 * PAGES


def test_memory_is_kept_while_an_objective_lives_and_across_errors() -> None:
    gc.collect()
    holders = _KEEPER._holders
    objective = Objective(
        torch.nn.Linear(2, 1), torch.nn.functional.mse_loss, (torch.zeros(3, 2), torch.ones(3, 1))
    )
    assert _KEEPER._holders == holders + 1
    with suppress(ZeroDivisionError), freed_memory_kept():
        assert _KEEPER._holders == holders + 2
        print(1 / 0)
    del objective
    gc.collect()
    assert _KEEPER._holders == holders


def test_a_finalizer_may_give_memory_back_while_its_own_thread_takes_hold_of_it() -> None:
    (holders,) = run(
        """
        from sharpscope.autograd.allocator import _KEEPER
        with freed_memory_kept(), _KEEPER._lock, freed_memory_kept():
            print(_KEEPER._holders)
        """
    )
    assert holders == 2
