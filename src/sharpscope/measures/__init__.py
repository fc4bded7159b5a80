"""Sharpness by every definition in use, one file each, and the registry of them by name."""

# the order of these imports is the order of the registry, of tables and of listings
# isort: off
from sharpscope.measures.registry import REGISTRY, Measure, checked, find
from sharpscope.measures.hessian_spectrum import lambda_max, lambda_min, spectral_norm
from sharpscope.measures.by_layer import by_layer
from sharpscope.measures.gradient_norm import gradient_norm
from sharpscope.measures.gradient_curvature import batch_sharpness, critical_sharpness, directional_sharpness
from sharpscope.measures.hessian_diagonal import HessianDiagonal, adaptive_trace, hessian_diagonal
from sharpscope.measures.effective_dimension import effective_dimension
from sharpscope.measures.gauss_newton_split import gauss_newton_split
from sharpscope.measures.relative_flatness import relative_flatness
from sharpscope.measures.normalised_sharpness import normalised_sharpness
from sharpscope.measures.sample_gradients import (
    fisher_rao_norm,
    fisher_trace,
    gradient_covariance_trace,
    gradient_disparity,
    information_sharpness,
)
from sharpscope.measures.average_direction import average_direction_sharpness
from sharpscope.measures.worst_case import worst_case_sharpness
from sharpscope.measures.geodesic_sharpness import geodesic_sharpness
from sharpscope.measures.sam_step import sam_step_sharpness
from sharpscope.measures.epsilon_sharpness import epsilon_sharpness
from sharpscope.measures.smoothed_loss import local_entropy, low_pass_flatness
from sharpscope.measures.pac_bayes import (
    pac_bayes_sigma,
    pac_bayes_sigma_magnitude,
    sharpness_radius,
    sharpness_radius_magnitude,
)
from sharpscope.measures.valley_asymmetry import valley_asymmetry
from sharpscope.measures.hammoud2023 import hammoud2023_sharpness
from sharpscope.measures.lambda_max_between_iterates import lambda_max_between_iterates
from sharpscope.measures.quadratic_bound import QuadraticBound, quadratic_bound
from sharpscope.measures.invariance.rescaling_change import rescaling_change
from sharpscope.measures.input_gradients import geometric_complexity, input_jacobian
from sharpscope.measures.rounding import rounding_rise
from sharpscope.measures.weight_kurtosis import weight_histogram, weight_kurtosis
from sharpscope.measures.controls import distance_from_initialisation, margin, path_norm, weight_norm

from sharpscope.measures.invariance.audit import Audit, audit
from sharpscope.measures.invariance.rescaling import Rescaling, find_rescalings, rescale
from sharpscope.measures.table import measure, row, take
# isort: on

__all__ = [
    "REGISTRY",
    "Audit",
    "HessianDiagonal",
    "Measure",
    "QuadraticBound",
    "Rescaling",
    "adaptive_trace",
    "audit",
    "average_direction_sharpness",
    "batch_sharpness",
    "by_layer",
    "checked",
    "critical_sharpness",
    "directional_sharpness",
    "distance_from_initialisation",
    "effective_dimension",
    "epsilon_sharpness",
    "find",
    "find_rescalings",
    "fisher_rao_norm",
    "fisher_trace",
    "gauss_newton_split",
    "geodesic_sharpness",
    "geometric_complexity",
    "gradient_covariance_trace",
    "gradient_disparity",
    "gradient_norm",
    "hammoud2023_sharpness",
    "hessian_diagonal",
    "information_sharpness",
    "input_jacobian",
    "lambda_max",
    "lambda_max_between_iterates",
    "lambda_min",
    "local_entropy",
    "low_pass_flatness",
    "margin",
    "measure",
    "normalised_sharpness",
    "pac_bayes_sigma",
    "pac_bayes_sigma_magnitude",
    "path_norm",
    "quadratic_bound",
    "relative_flatness",
    "rescale",
    "rescaling_change",
    "rounding_rise",
    "row",
    "sam_step_sharpness",
    "sharpness_radius",
    "sharpness_radius_magnitude",
    "spectral_norm",
    "take",
    "valley_asymmetry",
    "weight_histogram",
    "weight_kurtosis",
    "weight_norm",
    "worst_case_sharpness",
]
