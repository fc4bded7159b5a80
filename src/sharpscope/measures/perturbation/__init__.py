"""Losses at perturbed weights: balls, ascent inside them, and batches of perturbed losses."""
