"""Sharpness by every definition in use, one file each, and the registry that takes them by name."""

from sharpscope.measures.average_direction import average_direction_sharpness
from sharpscope.measures.hammoud2023 import hammoud2023_sharpness
from sharpscope.measures.invariance.audit import Audit, audit
from sharpscope.measures.invariance.rescaling import Rescaling, find_rescalings, rescale
from sharpscope.measures.invariance.rescaling_change import rescaling_change
from sharpscope.measures.lambda_max_between_iterates import lambda_max_between_iterates
from sharpscope.measures.quadratic_bound import QuadraticBound, quadratic_bound
from sharpscope.measures.registry import REGISTRY, Measure, checked, find
from sharpscope.measures.sam_step import sam_step_sharpness
from sharpscope.measures.table import measure, row, take
from sharpscope.measures.weight_kurtosis import weight_histogram, weight_kurtosis
from sharpscope.measures.worst_case import worst_case_sharpness

__all__ = [
    "REGISTRY",
    "Audit",
    "Measure",
    "QuadraticBound",
    "Rescaling",
    "audit",
    "average_direction_sharpness",
    "checked",
    "find",
    "find_rescalings",
    "hammoud2023_sharpness",
    "lambda_max_between_iterates",
    "measure",
    "quadratic_bound",
    "rescale",
    "rescaling_change",
    "row",
    "sam_step_sharpness",
    "take",
    "weight_histogram",
    "weight_kurtosis",
    "worst_case_sharpness",
]
