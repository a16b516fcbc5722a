"""Chat MLLMs that transformers ships: loading, prompts of several media, miniatures."""
