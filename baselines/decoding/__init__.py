"""Prompts (embeddings or token ids) -> text."""
