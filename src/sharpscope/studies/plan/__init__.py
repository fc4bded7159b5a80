"""From a study file to its runs and tasks, checked and priced before anything runs."""
