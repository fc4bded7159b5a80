"""Kernels that make training on a CPU faster."""
