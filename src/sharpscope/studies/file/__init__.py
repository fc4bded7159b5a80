"""A study file: its schema, its text with line numbers, its layers, and where studies are found."""
