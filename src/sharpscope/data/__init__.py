"""Data sets as tensors: digits, Fashion-MNIST, CIFAR-10, Abalone and Cora.

The whole set sits in memory, standardised by a declared rule, with seeded splits and subsets. Importing this
package imports neither torch nor any reader of files.
"""

from sharpscope.data.config import NAMES, DataConfig
from sharpscope.data.dataset import Dataset, DatasetInfo, Graph, Split
from sharpscope.data.registry import available, load

__all__ = ["NAMES", "DataConfig", "Dataset", "DatasetInfo", "Graph", "Split", "available", "load"]
