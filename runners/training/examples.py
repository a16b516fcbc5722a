"""Clips with their labels and reasons, in the order in which training sees them.

An index of a sample is (data set, clip, pass): what is drawn for it depends on the seed and that
index alone, so neither workers nor the number of devices nor a resumed run change a sample.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ovmer.adapters.affectgpt_prompts import DESCRIPTION, LABELS
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.data.reader import dataset_root, read_dataset
from ovmer.runners.data.settings import Clip
from ovmer.runners.data.table import read_columns
from ovmer.runners.progress import say
from ovmer.runners.training.settings import DescriptionSource

_TRIES = 10
"""As often the authors' loader draws another clip for one that it cannot read."""
_ONE_HOT = "onehot_wo_candidates"


class ExampleIndex(NamedTuple):
    dataset: int
    clip: int
    turn: int
    """The pass over the data set, from 0."""


@dataclass(frozen=True)
class Example:
    """A clip, and the values from which its answers are made."""

    clip: Clip
    values: Mapping[str, Any]
    """Values from which the answer of each kind is made."""


def read_examples(
    dataset: Mapping[str, Any], reasons: DescriptionSource, kinds: Sequence[str]
) -> list[Example]:
    """The clips of a data set with what the kinds of labels need.

    Raises PrerequisiteError where a kind has nothing to be made of.
    """
    clips = read_dataset(dataset)
    given = {clip.name: clip.reason for clip in clips}
    if DESCRIPTION in kinds and not dataset.get("source"):
        given = _reasons(dataset, reasons)
    if lost := [clip.name for clip in clips if DESCRIPTION in kinds and not given.get(clip.name)]:
        raise PrerequisiteError(
            f"{len(lost)} of {len(clips)} clips have no reason in {_reasons_file(dataset, reasons)}"
            f", the first {lost[0]!r}; add them, or learn labels alone with train.kinds=[{LABELS}]"
        )
    return [Example(clip, _values(clip, given.get(clip.name), dataset, kinds)) for clip in clips]


def _values(
    clip: Clip, reason: str | None, dataset: Mapping[str, Any], kinds: Sequence[str]
) -> dict[str, Any]:
    labels = dataset.get("labels") or {}
    values: dict[str, Any] = {"description": reason, "ovlabel": ", ".join(clip.labels)}
    if labels.get("range") and clip.labels:
        low, high = labels["range"]
        number = float(clip.labels[0])
        sentiment = "positive" if number > 0 else "negative" if number < 0 else "neutral"
        values |= {"valence": number, "minval": low, "maxval": high, "sentiment": sentiment}
    elif len(clip.labels) == 1:
        values["onehot"] = clip.labels[0]
    needs = {DESCRIPTION: "description", LABELS: "ovlabel", _ONE_HOT: "onehot"}
    for kind in kinds:
        if not values.get(needs.get(kind, kind)) and values.get(needs.get(kind, kind)) != 0:
            raise PrerequisiteError(
                f"clip {clip.name!r} of {dataset.get('name')} has nothing for train.kinds={kind}; "
                "give it one in the table (column openset or reason), or choose other train.kinds"
            )
    return values


def _reasons_file(dataset: Mapping[str, Any], reasons: DescriptionSource) -> Path:
    if dataset.get("source"):
        return Path(dataset["source"])
    labels = str(dataset["labels"]["file"])
    name = reasons.file or labels.replace("track2", "track3")
    return dataset_root(dataset) / name


def _reasons(dataset: Mapping[str, Any], reasons: DescriptionSource) -> dict[str, str | None]:
    file = _reasons_file(dataset, reasons)
    if not file.is_file():
        raise PrerequisiteError(
            f"there are no reasons in {file}; name their csv with train.reasons.file, or learn "
            f"labels alone with train.kinds=[{LABELS}]"
        )
    rows = read_columns(file, reasons.key, reasons.column)
    return dict(rows)


class ExampleOrder:
    """The indices of a run: passes over each data set in random order, the last incomplete batch of
    each left out, and for each batch one data set drawn by its share."""

    def __init__(
        self, sizes: Sequence[int], shares: Sequence[float], batch: int, batches: int, seed: int
    ) -> None:
        """`batch` is that of all devices together. Raises PrerequisiteError for too few clips."""
        for size in sizes:
            if size < batch:
                raise PrerequisiteError(
                    f"{size} clips do not fill a batch of {batch}; set train.batch_size={size} "
                    "or use more clips"
                )
        self._sizes, self._shares = sizes, shares
        self._batch, self._batches, self._seed = batch, batches, seed

    def __len__(self) -> int:
        return self._batch * self._batches

    def __iter__(self) -> Iterator[ExampleIndex]:
        streams = [self._passes(number) for number in range(len(self._sizes))]
        draw = random.Random(f"{self._seed} data sets")
        for _ in range(self._batches):
            (number,) = draw.choices(range(len(streams)), self._shares)
            yield from next(streams[number])

    def _passes(self, number: int) -> Iterator[list[ExampleIndex]]:
        turn = 0
        while True:
            clips = list(range(self._sizes[number]))
            random.Random(f"{self._seed} {number} {turn}").shuffle(clips)
            for start in range(0, len(clips) - self._batch + 1, self._batch):
                yield [
                    ExampleIndex(number, clip, turn) for clip in clips[start : start + self._batch]
                ]
            turn += 1


class TrainingSamples:
    """A data set of torch: the sample at each `ExampleIndex`."""

    def __init__(
        self,
        examples: Sequence[Sequence[Example]],
        make: Callable[[Example, str], Any],
        kinds: Sequence[str],
        *,
        seed: int,
        draws: str,
        broken: str,
        listing: Path,
    ) -> None:
        """`make` turns an example and a kind into a sample. `draws`: kinds depend on the index
        (clip) or on the stream of each worker; `broken` clips are replaced or skipped, and are
        added to the file `listing`."""
        self._examples, self._make, self._kinds = examples, make, kinds
        self._seed, self._draws, self._broken = seed, draws, broken
        self._listing = listing
        self._listed: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._examples))

    def __getitem__(self, index: ExampleIndex) -> Any:
        """The sample; None for a broken clip that is skipped.

        Raises ClipError where ten clips after one another are broken.
        """
        draw: Any = random
        if self._draws == "clip":
            draw = random.Random(f"{self._seed} {index.dataset} {index.clip} {index.turn}")
        examples = self._examples[index.dataset]
        example = examples[index.clip]
        for _ in range(_TRIES):
            try:
                return self._make(example, draw.choice(self._kinds))
            except ClipError as error:
                failure = error
                self._list(example, error)
            if self._broken == "skip":
                return None
            example = draw.choice(examples)
        raise failure

    def _list(self, example: Example, error: ClipError) -> None:
        if example.clip.name in self._listed:
            return
        self._listed.add(example.clip.name)
        note_left_out(self._listing, {example.clip.name: str(error)})
        say(f"not trained on: {example.clip.name}: {error}")


def note_left_out(listing: Path, reasons: Mapping[str, str]) -> None:
    """Add clips to the list of those that were not trained on, with the reason, each once.

    Workers may do so side by side.
    """
    known = set(listing.read_text("utf-8").splitlines()) if listing.is_file() else set()
    rows = [{"name": name, "reason": reason} for name, reason in reasons.items()]
    lines = [line for row in rows if (line := json.dumps(row, ensure_ascii=False)) not in known]
    with listing.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def digest(examples: Sequence[Sequence[Example]]) -> str:
    """A hash of all that is learned, so that a run goes on with the same data alone."""
    content = hashlib.blake2b(digest_size=8)
    for dataset in examples:
        for example in dataset:
            row = [example.clip.name, example.clip.subtitle, dict(example.values)]
            content.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    return content.hexdigest()
