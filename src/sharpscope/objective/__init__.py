"""The measured function L(θ): its data, its chunks, its derivatives, and parts of its data.

`Objective` is the function, `Evaluator` the engine that evaluates it. The other files serve the two: fixed batches,
chunk sizes, the flat parameter vector, graphs of chunks, mean losses and checks on them, many points in one pass,
and importance sampling of the data.
"""

from sharpscope.objective.evaluator import Evaluator
from sharpscope.objective.measured_data import Loss
from sharpscope.objective.measured_function import BatchLoss
from sharpscope.objective.objective import Objective
from sharpscope.objective.preconditioned import preconditioned

__all__ = ["BatchLoss", "Evaluator", "Loss", "Objective", "preconditioned"]
