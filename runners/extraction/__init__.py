"""Descriptions -> open-vocabulary labels."""

from ovmer.runners.extraction.base import Described, Extracted, Extractor
from ovmer.runners.extraction.make import make_extractors, make_language_model

__all__ = ["Described", "Extracted", "Extractor", "make_extractors", "make_language_model"]
