"""Training of the baselines: the step that all share, low-rank adapters, and AffectGPT."""
