"""The tests, and the folders that they share."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "runners" / "data" / "sample"
