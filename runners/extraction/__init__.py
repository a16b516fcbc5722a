"""Descriptions -> open-vocabulary labels."""

from ovmer.runners.extraction.base import ClipDescription, ExtractedLabels, Extractor
from ovmer.runners.extraction.make import make_extractors, make_language_model

__all__ = [
    "ClipDescription",
    "ExtractedLabels",
    "Extractor",
    "make_extractors",
    "make_language_model",
]
