"""Public data sets by name: where their files lie, how they are fetched, checked and imported."""
