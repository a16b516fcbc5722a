"""Blocks that several baselines share."""
