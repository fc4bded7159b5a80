"""Where tasks run: processes of this machine (`local`), a Ray cluster (`ray`), a Slurm cluster (`slurm`).

`interface` is what every executor offers, `attempt` what all of them do with a task. `worker_environment` is the
environment of a worker; `worker_slots` and `node` are shared by the executors of other machines.
"""

from sharpscope.sweep.executors.interface import Executor, Message
from sharpscope.sweep.executors.local.executor import LocalExecutor

__all__ = ["Executor", "LocalExecutor", "Message"]
