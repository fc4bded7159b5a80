"""Where else a monitor's numbers go: TensorBoard, Weights & Biases, MLflow. None of them is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """Anything that takes named numbers at a step."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Take them."""


class TensorBoard:
    """Scalars ``sharpness/…`` in a ``torch.utils.tensorboard.SummaryWriter``, or in a folder it opens."""

    def __init__(self, writer_or_folder: Any) -> None:
        if not hasattr(writer_or_folder, "add_scalar"):
            from torch.utils.tensorboard import SummaryWriter

            writer_or_folder = SummaryWriter(str(writer_or_folder))
        self.writer = writer_or_folder

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Add a scalar for each number and have them written."""
        for name, value in numbers.items():
            self.writer.add_scalar(f"sharpness/{name}", value, step)
        self.writer.flush()


class WandB:
    """Metrics ``sharpness/…`` of a Weights & Biases run, against ``sharpness/step``.

    Give the run that ``wandb.init(mode="offline")`` returned; without one, the run that is active. The numbers
    have a step axis of their own, since W&B drops what is logged at a step earlier than its own counter.
    """

    def __init__(self, run: Any = None) -> None:
        if run is None:
            import wandb

            run = wandb.run
        self.run = run
        run.define_metric("sharpness/*", step_metric="sharpness/step")

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Log them in one call."""
        self.run.log({"sharpness/step": step, **{f"sharpness/{k}": v for k, v in numbers.items()}})


class MLflow:
    """Metrics ``sharpness.…`` of an MLflow run: the given one's identifier, or the active run."""

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Log them in one call."""
        import mlflow

        metrics = {f"sharpness.{name}": value for name, value in numbers.items()}
        mlflow.log_metrics(metrics, step=step, run_id=self.run_id)
