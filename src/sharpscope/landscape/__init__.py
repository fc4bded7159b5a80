"""Loss along lines and over planes in parameter space: interpolation between two models, surfaces around one."""

from sharpscope.landscape.interpolation import BasinWidth, Interpolation, interpolate
from sharpscope.landscape.surface import Surface, filter_normalised_directions, surface

__all__ = [
    "BasinWidth",
    "Interpolation",
    "Surface",
    "filter_normalised_directions",
    "interpolate",
    "surface",
]
