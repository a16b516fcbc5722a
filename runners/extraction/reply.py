"""The extractor of tasks whose metric reads the replies themselves: they are kept unchanged."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ovmer.runners.extraction.base import ClipDescription, ExtractedLabels


@dataclass(frozen=True)
class ReplyExtractor:
    """The reply as the one label of a clip."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"name": "reply"}

    def extract(self, items: Iterable[ClipDescription]) -> Iterator[ExtractedLabels]:
        for item in items:
            yield ExtractedLabels(item.name, (item.text,) if item.text else (), raw=item.text)

    def close(self) -> None:
        """Nothing to free."""
