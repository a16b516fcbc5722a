"""Data sets on disk -> `Clip`s. One reader; what differs between data sets is configuration."""

from ovmer.runners.data.clusters import in_clusters
from ovmer.runners.data.reader import read_dataset
from ovmer.runners.data.settings import Clip, DatasetSettings, Subtitle
from ovmer.runners.data.truth import Labels

__all__ = ["Clip", "DatasetSettings", "Labels", "Subtitle", "in_clusters", "read_dataset"]
