"""Reading Planetoid's pickles: only known bytes, and only arrays, sparse matrices and lists out of them."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpscope.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def read_verified(path: Path, sha256: str) -> bytes:
    """Return the bytes of a file, or raise DataError when they are not the ones whose SHA-256 is known."""
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != sha256:
        raise DataError(
            f"{path} must have the SHA-256 {sha256[:16]}…, received {received[:16]}… (a pickle can run code, so "
            "no other bytes are opened); replace it by Planetoid's own file."
        )
    return content


def unpickle(content: bytes) -> Any:
    """Return the array, dense matrix or dictionary of lists in a Planetoid pickle.

    Nothing but NumPy arrays, SciPy's CSR matrices (returned dense) and dictionaries of lists is constructed;
    any other name in the pickle raises DataError.
    """
    loaded = _Restricted(io.BytesIO(content), encoding="latin1").load()
    return loaded.dense() if isinstance(loaded, _CSR) else loaded


class _CSR:
    """Stands for scipy.sparse.csr_matrix: takes up its pickled attributes and none of its code."""

    data: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    indptr: npt.NDArray[Any]
    _shape: tuple[int, int]

    def dense(self) -> npt.NDArray[np.float32]:
        matrix = np.zeros(self._shape, dtype=np.float32)
        rows = np.repeat(np.arange(self._shape[0]), np.diff(self.indptr))
        matrix[rows, self.indices] = self.data
        return matrix


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("scipy.sparse.csr", "csr_matrix"): _CSR,
            ("scipy.sparse._csr", "csr_matrix"): _CSR,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("collections", "defaultdict"): defaultdict,
            ("builtins", "list"): list,
            ("__builtin__", "list"): list,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return super().find_class(
                "numpy._core.multiarray" if _numpy_2() else "numpy.core.multiarray", name
            )
        raise DataError(
            f"A Planetoid file may hold arrays, sparse matrices and lists only, received {module}.{name}; "
            "replace it by Planetoid's own file."
        )


def _numpy_2() -> bool:
    return int(np.__version__.split(".")[0]) >= 2
