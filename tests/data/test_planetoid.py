from __future__ import annotations

import os
import pickle
from collections import defaultdict

import numpy as np
import pytest
from scipy import sparse

from sharpscope.data import load
from sharpscope.data.cora import _edges, _in_node_order
from sharpscope.data.planetoid import read_verified, unpickle
from sharpscope.errors import DataError


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_that_names_anything_else_is_refused_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"received (posix|nt)\.system"):
        unpickle(pickle.dumps(_Harm()))
    assert not (tmp_path / "harmed").exists()


def test_sparse_arrays_and_dictionaries_come_back():
    matrix = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3]], dtype=np.float32)
    assert np.array_equal(unpickle(pickle.dumps(sparse.csr_matrix(matrix))), matrix)
    graph = defaultdict(list, {0: [1, 1], 1: [0]})
    assert unpickle(pickle.dumps(graph)) == graph


def test_only_the_known_bytes_are_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"other")
    with pytest.raises(DataError, match="must have the SHA-256 aaaa"):
        read_verified(path, "a" * 64)


def test_cora_refuses_a_changed_file_unopened(tmp_path):
    folder = tmp_path / "data" / "cora" / "raw"
    folder.mkdir(parents=True)
    for part in ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index"):
        (folder / f"ind.cora.{part}").write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(DataError, match="SHA-256"):
        load("cora", data_dir=tmp_path / "data", download=False)
    with pytest.raises(DataError, match=r"needs the file raw/ind\.cora\.y"):
        load("cora", download=False)


def test_test_rows_go_to_the_nodes_that_the_index_names():
    rows = _in_node_order(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]]), np.array([4, 2, 3]))
    assert rows.flatten().tolist() == [1, 2, 4, 5, 3]


def test_edges_are_symmetric_unique_and_without_loops():
    edges = _edges({0: [1, 1, 0], 1: [2], 2: []})
    assert edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
