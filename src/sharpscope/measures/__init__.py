"""Sharpness by every definition in use, one file each, and the registry of them by name."""

# the order of these imports is the order of the registry, of tables and of listings
# isort: off
from sharpscope.measures.registry import REGISTRY, Measure, checked, find
from sharpscope.measures.hessian_spectrum import lambda_max, lambda_min, spectral_norm
from sharpscope.measures.gradient_norm import gradient_norm
from sharpscope.measures.gradient_curvature import batch_sharpness, critical_sharpness, directional_sharpness
from sharpscope.measures.average_direction import average_direction_sharpness
from sharpscope.measures.worst_case import worst_case_sharpness
from sharpscope.measures.sam_step import sam_step_sharpness
from sharpscope.measures.hammoud2023 import hammoud2023_sharpness
from sharpscope.measures.lambda_max_between_iterates import lambda_max_between_iterates
from sharpscope.measures.quadratic_bound import QuadraticBound, quadratic_bound
from sharpscope.measures.invariance.rescaling_change import rescaling_change
from sharpscope.measures.weight_kurtosis import weight_histogram, weight_kurtosis
from sharpscope.measures.controls import distance_from_initialisation, margin, path_norm, weight_norm

from sharpscope.measures.invariance.audit import Audit, audit
from sharpscope.measures.invariance.rescaling import Rescaling, find_rescalings, rescale
from sharpscope.measures.table import measure, row, take
# isort: on

__all__ = [
    "REGISTRY",
    "Audit",
    "Measure",
    "QuadraticBound",
    "Rescaling",
    "audit",
    "average_direction_sharpness",
    "batch_sharpness",
    "checked",
    "critical_sharpness",
    "directional_sharpness",
    "distance_from_initialisation",
    "find",
    "find_rescalings",
    "gradient_norm",
    "hammoud2023_sharpness",
    "lambda_max",
    "lambda_max_between_iterates",
    "lambda_min",
    "margin",
    "measure",
    "path_norm",
    "quadratic_bound",
    "rescale",
    "rescaling_change",
    "row",
    "sam_step_sharpness",
    "spectral_norm",
    "take",
    "weight_histogram",
    "weight_kurtosis",
    "weight_norm",
    "worst_case_sharpness",
]
