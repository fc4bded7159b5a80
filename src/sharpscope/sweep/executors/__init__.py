"""Where tasks run. Each executor is one file behind the interface of `Executor`."""

from sharpscope.sweep.executors.interface import Executor, Message
from sharpscope.sweep.executors.local.executor import LocalExecutor

__all__ = ["Executor", "LocalExecutor", "Message"]
