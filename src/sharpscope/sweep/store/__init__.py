"""A folder of published results, each there whole or not at all."""
