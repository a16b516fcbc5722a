"""Training of baselines: what `ovmer train` runs."""
