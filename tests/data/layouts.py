"""Data sets as their authors lay them out, made up of the sample's clips.

    python -m tests.data.layouts /tmp/dataset            # those of MER-UniBench
    python -m tests.data.layouts /tmp/dataset meld sims  # some of them

What is written follows from `conf/dataset/NAME.yaml` alone: tables with the columns that it names,
label files with its splits, media where its patterns say. The labels are invented.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests import SAMPLE
from tests.runners.jobs import job

UNIBENCH = "mer2023 mer2024 meld iemocap cmumosi cmumosei sims simsv2 ovmerdplus".split()
_PREFIX = {"meld": "test_dia0_utt", "iemocap": "Ses05F_impro01_F00", "cmumosi": "k5Y_838nuGo_"}
_SAID = {"chinese": "你在开玩笑吗"}
_OPEN = ("[happy, relieved]", "['worried', 'tense']", "angry, annoyed", "[]")


def settings_of(name: str) -> dict[str, Any]:
    return job(f"dataset={name}").settings.dataset


def names_of(name: str, clips: int) -> list[str]:
    return [f"{_PREFIX.get(name, 'sample_0000000')}{i}" for i in range(clips)]


def write_dataset(place: Path, name: str, clips: int = 6) -> Path:
    """One data set below `place`, with `clips` clips; returns its folder."""
    settings = settings_of(name)
    root = place / Path(settings["root"]).name
    root.mkdir(parents=True, exist_ok=True)
    names = names_of(name, clips)
    _write_media(root, settings, names)
    _write_subtitles(root, settings["subtitle"], names)
    write_labels(root, settings["labels"], names)
    return root


def _write_media(root: Path, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Each clip is one of the sample's, under another name (and, for .avi, another ending)."""
    scenes = sorted((SAMPLE / "audio").glob("*.wav"))
    scenes = [each for each in scenes if (SAMPLE / "video" / f"{each.stem}.mp4").exists()]
    faces = [np.load(each) for each in sorted((SAMPLE / "openface_face").glob("*/*.npy"))]
    for i, name in enumerate(names):
        sound = scenes[i % len(scenes)]
        picture = SAMPLE / "video" / f"{sound.stem}.mp4"
        for kind, source in (("video", picture), ("audio", sound)):
            path = root / settings[kind][0].replace("{name}", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
        path = root / settings["face"][0].replace("{name}", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, faces[i % len(faces)])


def _write_subtitles(root: Path, table: Mapping[str, Any], names: Sequence[str]) -> None:
    columns = [column for column in table["columns"].values() if column]
    with (root / table["file"]).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([table["key"], *columns])
        for i, name in enumerate(names):  # the last one has no subtitle
            texts = [_SAID.get(each, "Are you kidding?") for each in columns]
            rows.writerow([name, *(texts if i + 1 < len(names) else [""] * len(columns))])


def write_labels(root: Path, table: Mapping[str, Any], names: Sequence[str]) -> None:
    path = root / table["file"]
    if path.suffix == ".npz":
        _write_corpus(path, table, names)
        return
    column = table["column"]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([table["key"], *([column] if column else [])])
        rows.writerows(
            [name, *([_OPEN[i % len(_OPEN)]] if column else [])] for i, name in enumerate(names)
        )


def _write_corpus(path: Path, table: Mapping[str, Any], names: Sequence[str]) -> None:
    """A pickled dict a split, as MERBench writes them; clips of another session stand there too."""
    corpus: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(names):
        low, high = table["range"] or (-1, 1)
        # 0 stands among them, which no score counts.
        value = np.float32(low + (high - low) * (i % 5) / 4)
        emotion: Any = i % len(table["words"]) if table["words"] else 0
        if table["space"]:
            emotion = table["space"][(i + 1) % len(table["space"])]
        corpus[name] = {"emo": emotion, "val": value if table["range"] else -10}
    if table["names"]:
        corpus["Ses01F_impro01_F000"] = {"emo": 0, "val": -10}
    np.savez_compressed(path, **{table["split"]: np.array(corpus, dtype=object)}, train_corpus={})


if __name__ == "__main__":
    for each in sys.argv[2:] or UNIBENCH:
        print(write_dataset(Path(sys.argv[1]), each))
