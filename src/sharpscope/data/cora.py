"""Cora: 2708 papers, 1433 words, 5278 citations, seven topics, in the Planetoid split (Yang et al., 2016)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.dataset import Dataset, DatasetInfo, Graph, Split
from sharpscope.data.files import Access, Origin, find, obtain
from sharpscope.data.planetoid import read_verified, unpickle
from sharpscope.data.subsets import choose_rows
from sharpscope.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig

_ADDRESS = "https://raw.githubusercontent.com/kimiyoung/planetoid/master/data/"
_SHA256 = {
    "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
}
_VALIDATION = 500  # Planetoid's convention: the 500 nodes after the training nodes
_INFO = DatasetInfo(
    name="cora",
    title="Cora (Planetoid split)",
    task="classification",
    source="https://github.com/kimiyoung/planetoid",
    citation="Yang, Cohen and Salakhutdinov, Revisiting Semi-Supervised Learning with Graph Embeddings (2016)",
    licence="MIT (Planetoid's repository)",
    unit="nodes",
    total=2708,
    train=140,
    validation=_VALIDATION,
    test=1000,
    official_split=True,
    standardisation="word indicators 0 and 1, untransformed",
)


def load_cora(config: DataConfig, access: Access) -> Dataset:
    """Return Cora: inputs are node indices (n,), the graph holds features (2708, 1433) and both directions.

    Raises DataError when a file is missing or its SHA-256 is not Planetoid's.
    """
    import torch

    origins = [Origin(f"raw/{file}", _ADDRESS + file, sha256=digest) for file, digest in _SHA256.items()]
    paths = {file: obtain("cora", origin, access) for file, origin in zip(_SHA256, origins, strict=True)}
    content = {
        file.removeprefix("ind.cora."): read_verified(path, _SHA256[file]) for file, path in paths.items()
    }
    test = np.array(content["test.index"].split(), dtype=np.int64)  # (1000,)
    # Row i of tx and ty belongs to node test[i]; the rows of allx and ally are the nodes before them, in order.
    features = _in_node_order(unpickle(content["allx"]), unpickle(content["tx"]), test).astype(np.float32)
    labels = _in_node_order(unpickle(content["ally"]), unpickle(content["ty"]), test).argmax(axis=1)
    if config.rows == "normalised":
        sums = features.sum(axis=1, keepdims=True)
        features /= np.where(sums == 0, 1, sums)
    train = np.arange(len(unpickle(content["y"])))
    validation = np.arange(len(train), len(train) + _VALIDATION)
    test = np.sort(test)
    rows = choose_rows(
        config.name, config.sizes, config.drawn_by, len(train), len(test), validation=len(validation)
    )
    targets = torch.from_numpy(labels.astype(np.int64))  # (2708,)

    def split(nodes: NDArray[np.int64]) -> Split:
        indices = torch.from_numpy(nodes)
        return Split(indices, targets[indices])

    return Dataset(
        name="cora",
        task="classification",
        n_outputs=7,
        input_shape=(),
        train=split(train[rows.train]),
        validation=split(validation[rows.validation]),
        test=split(test[rows.test]),
        whole_test=split(test) if config.final_test == "whole" else None,
        standardisation=_INFO.standardisation
        if config.rows == "raw"
        else "word indicators divided by their sum in each node",
        notes=rows.notes,
        graph=Graph(torch.from_numpy(features), torch.from_numpy(_edges(unpickle(content["graph"])))),
    )


def describe_cora(data_dir: Path | str | None) -> DatasetInfo:
    """Return the description with what the local files show; hashes them, 570 KB, and opens none."""
    paths = {file: find("cora", f"raw/{file}", data_dir) for file in _SHA256}
    missing = [file for file, path in paths.items() if path is None]
    if missing:
        return replace(_INFO, problem=f"{missing[0]} not here yet; {_INFO.source} is fetched on first use")
    try:
        for file, path in paths.items():
            if path is not None:
                where = str(path.parent.parent)
                read_verified(path, _SHA256[file])
    except DataError as error:
        return replace(_INFO, where=where, problem=str(error))
    return replace(_INFO, where=where)


def _in_node_order(
    first: NDArray[np.float32], last: NDArray[np.float32], test: NDArray[np.int64]
) -> NDArray[np.float32]:
    rows = np.zeros((len(first) + len(last), first.shape[1]), dtype=first.dtype)
    rows[: len(first)] = first
    rows[test] = last
    return rows


def _edges(graph: dict[int, list[int]]) -> NDArray[np.int64]:
    """Return the edges (2, 10556), each citation in both directions, once, without self-loops, sorted."""
    pairs = {
        (a, b)
        for node, others in graph.items()
        for other in others
        for a, b in ((node, other), (other, node))
    }
    return np.array(sorted((a, b) for a, b in pairs if a != b), dtype=np.int64).T.copy()
