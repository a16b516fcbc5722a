"""Data sets on disk -> `Clip`s. One reader; what differs between data sets is configuration."""

from runners.data.reader import Clip, DatasetSettings, Labels, Subtitle, read_dataset

__all__ = ["Clip", "DatasetSettings", "Labels", "Subtitle", "read_dataset"]
