"""Function-preserving rescalings of a network, and which measures they change."""
