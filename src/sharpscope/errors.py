"""What sharpscope raises and warns: one root exception, few children.

Every message is one sentence that names the rule, the value received and the remedy. The command line
prints that sentence alone and exits with status 2.
"""


class SharpscopeError(Exception):
    """Root of everything sharpscope raises on purpose."""


class InputError(SharpscopeError, ValueError):
    """An argument, a configuration or a file breaks a stated rule."""


class DataError(SharpscopeError):
    """A data set is missing, truncated or not what its name says."""


class StoreError(SharpscopeError):
    """A store of runs cannot be read or written."""


class CheckpointError(SharpscopeError):
    """A checkpoint is missing, corrupt or belongs to another model."""


class NonFiniteError(SharpscopeError, ArithmeticError):
    """A loss, gradient or product is NaN or infinite where a finite value is needed."""


class NotConvergedWarning(UserWarning):
    """An estimate stopped before reaching the requested accuracy; its ``converged`` field says so too."""
