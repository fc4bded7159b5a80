"""sharpscope: an instrument for the loss landscape.

The public surface, grouped by purpose; everything else is private. Names are loaded on first use, so that
``import sharpscope`` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    # the measured function
    "Objective": "objective",
    # curvature
    "BetweenIterates": "curvature",
    "Eigenpairs": "curvature",
    "SpectralDensity": "curvature",
    "between_iterates": "curvature",
    "lambda_max_from_sample": "curvature",
    "spectral_density": "curvature",
    "top_eigenvalues": "curvature",
    "trace": "curvature",
    "frobenius_norm": "curvature",
    # perturbation sharpness
    "average_direction_sharpness": "measures",
    "worst_case_sharpness": "measures",
    "quadratic_bound": "measures",
    "sam_step_sharpness": "measures",
    "hammoud2023_sharpness": "measures",
    # which of them survive a rescaling that leaves the function as it is
    "audit": "measures",
    "find_rescalings": "measures",
    # the landscape
    "interpolate": "landscape",
    "surface": "landscape",
    # a first look at a minimum, with a page
    "Examination": "examination",
    "examine": "examination",
    # any of them, as a table
    "measure": "measures",
    "Estimate": "estimate",
    # optimizers
    "SAM": "optim",
    "ASAM": "optim",
    "GSAM": "optim",
    "FriendlySAM": "optim",
    "LookSAM": "optim",
    # sharpness while training
    "SharpnessMonitor": "integrations",
    # what goes wrong
    "SharpscopeError": "errors",
    "InputError": "errors",
    "DataError": "errors",
    "StoreError": "errors",
    "CheckpointError": "errors",
    "NonFiniteError": "errors",
    "NotConvergedWarning": "errors",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from sharpscope.curvature import BetweenIterates as BetweenIterates
    from sharpscope.curvature import Eigenpairs as Eigenpairs
    from sharpscope.curvature import SpectralDensity as SpectralDensity
    from sharpscope.curvature import between_iterates as between_iterates
    from sharpscope.curvature import frobenius_norm as frobenius_norm
    from sharpscope.curvature import lambda_max_from_sample as lambda_max_from_sample
    from sharpscope.curvature import spectral_density as spectral_density
    from sharpscope.curvature import top_eigenvalues as top_eigenvalues
    from sharpscope.curvature import trace as trace
    from sharpscope.errors import CheckpointError as CheckpointError
    from sharpscope.errors import DataError as DataError
    from sharpscope.errors import InputError as InputError
    from sharpscope.errors import NonFiniteError as NonFiniteError
    from sharpscope.errors import NotConvergedWarning as NotConvergedWarning
    from sharpscope.errors import SharpscopeError as SharpscopeError
    from sharpscope.errors import StoreError as StoreError
    from sharpscope.estimate import Estimate as Estimate
    from sharpscope.examination import Examination as Examination
    from sharpscope.examination import examine as examine
    from sharpscope.integrations import SharpnessMonitor as SharpnessMonitor
    from sharpscope.landscape import interpolate as interpolate
    from sharpscope.landscape import surface as surface
    from sharpscope.measures import audit as audit
    from sharpscope.measures import average_direction_sharpness as average_direction_sharpness
    from sharpscope.measures import find_rescalings as find_rescalings
    from sharpscope.measures import hammoud2023_sharpness as hammoud2023_sharpness
    from sharpscope.measures import measure as measure
    from sharpscope.measures import sam_step_sharpness as sam_step_sharpness
    from sharpscope.measures import worst_case_sharpness as worst_case_sharpness
    from sharpscope.measures.quadratic_bound import quadratic_bound as quadratic_bound
    from sharpscope.objective.objective import Objective as Objective
    from sharpscope.optim import ASAM as ASAM
    from sharpscope.optim import GSAM as GSAM
    from sharpscope.optim import SAM as SAM
    from sharpscope.optim import FriendlySAM as FriendlySAM
    from sharpscope.optim import LookSAM as LookSAM


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"sharpscope.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sharpscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
