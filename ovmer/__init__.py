"""Multimodal LLMs for open-vocabulary emotion recognition, behind one interface."""
