"""What a worker does for a study: train a run, measure it, draw a view of it."""
