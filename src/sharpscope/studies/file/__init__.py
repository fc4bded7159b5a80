"""Reading a study file: its schema, the line of each key, its layers, and where studies are found."""
