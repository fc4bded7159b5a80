"""The measured function L(θ): its data, its chunks, its derivatives, and parts of its data.

`Objective` is the function. The other files serve it: fixed batches, chunk sizes, the flat parameter vector,
graphs of chunks, checks on the loss, and importance sampling of the data.
"""

from sharpscope.objective.objective import BatchLoss, Loss, Objective

__all__ = ["BatchLoss", "Loss", "Objective"]
