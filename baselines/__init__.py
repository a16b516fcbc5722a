"""Torch modules of the MLLMs that transformers does not ship, and what they share.

Nothing here knows of clips, prompts or Hydra, and nothing here imports `adapters` or `runners`.
"""

if __name__ != "ovmer.baselines":
    raise ImportError("this package is imported as ovmer.baselines; install the project to use it")
