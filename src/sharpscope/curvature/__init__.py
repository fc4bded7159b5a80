"""Curvature of L(θ): extreme eigenvalues, trace, Frobenius norm and density of the Hessian from exact products."""

from sharpscope.curvature.between_iterates import BetweenIterates, between_iterates
from sharpscope.curvature.density import SpectralDensity, spectral_density
from sharpscope.curvature.eigenvalues import Eigenpairs, top_eigenvalues
from sharpscope.curvature.from_sample import SampledEigenvalue, lambda_max_from_sample
from sharpscope.curvature.hutchinson import frobenius_norm, trace
from sharpscope.curvature.operators import CurvatureProducts

__all__ = [
    "BetweenIterates",
    "CurvatureProducts",
    "Eigenpairs",
    "SampledEigenvalue",
    "SpectralDensity",
    "between_iterates",
    "frobenius_norm",
    "lambda_max_from_sample",
    "spectral_density",
    "top_eigenvalues",
    "trace",
]
