"""Benchmarks in their releases' layout, with invented labels and the sample's clips as videos."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import SAMPLE

VIDEOS = sorted((SAMPLE / "video").glob("*.mp4"))


def put_video(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(VIDEOS[number % len(VIDEOS)], path)


def put_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def dfew(root: Path, labels: Sequence[int] = (1, 2, 7)) -> None:
    """Each of the five folds with the same labels, one clip after the other."""
    number = 0
    for fold in range(1, 6):
        table = root / f"EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["video_name", "label"])
            for label in labels:
                number += 1
                rows.writerow([number, label])
                put_video(root / f"Clip/original/{number}.mp4", number)


def mafw(root: Path, labels: Sequence[str] = ("anger", "happiness")) -> None:
    number = 0
    for fold in range(1, 6):
        table = root / f"Train & Test Set/single/no_caption/set_{fold}/test.txt"
        table.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for label in labels:
            number += 1
            lines.append(f"{number:05}.mp4 {label}\n")
            put_video(root / f"clips/{number:05}.mp4", number)
        table.write_text("".join(lines), encoding="utf-8")


def ravdess(root: Path, actors: Sequence[int] = (1, 5)) -> None:
    """Eight emotions of each actor, with the twins without sound and a song."""
    for actor in actors:
        for emotion in range(1, 9):
            for modality in ("01", "02"):
                name = f"{modality}-01-{emotion:02}-01-01-01-{actor:02}.mp4"
                put_video(root / f"Actor_{actor:02}" / name, emotion)
        put_video(root / f"Actor_{actor:02}" / f"01-02-01-01-01-01-{actor:02}.mp4")


def emobench_m(root: Path, name: str, folder: str, answers: Sequence[str]) -> None:
    items = []
    for number, answer in enumerate(answers):
        video = f"videos/{folder}/ab_0001/{number:05}.mp4"
        put_video(root / "dataset" / folder / video, number)
        items.append(
            {
                "id": str(number),
                "video": video,
                "conversations": [
                    {"from": "human", "value": f"<video>\nThe person says: w{number}. Which one?"},
                    {"from": "gpt", "value": answer},
                ],
            }
        )
    put_json(root / f"benchmark_json/{name}.json", items)


def mmla(root: Path, name: str, task: str, answers: Sequence[str]) -> None:
    items = []
    for number, answer in enumerate(answers):
        put_video(root / name / "video" / f"dia{number}_utt0.mp4", number)
        words = [{"value": f"These are words {number}."}, {"value": f"{task}: {answer}"}]
        items.append({"id": f"{number}", "video": f"dia{number}_utt0.mp4", "conversations": words})
    put_json(root / name / f"test_{task.replace(' ', '_')}.json", items)


def intentbench(root: Path) -> None:
    put_video(root / "videos/social/a.mp4", 1)
    put_video(root / "videos/MER24/sample_1.mp4", 2)
    common = {"data_type": "video", "path": "social/a.mp4", "video": "social/a.mp4"}
    put_json(
        root / "qa.json",
        [
            common
            | {
                "problem_type": "multiple choice",
                "problem": "Why does she smile?",
                "options": ["A. A joke", "B. A gift"],
                "solution": "<answer>B</answer>",
            },
            common
            | {
                "problem_type": "judge",
                "problem": "Is he lying?",
                "options": [],
                "solution": "<answer>Yes</answer>",
            },
            common
            | {
                "problem_type": "emer_ov_mc",
                "problem": "What emotions does the man display?",
                "options": ["A. Calm", "B. Angry", "C. Sad"],
                "solution": "<think>x</think><answer>B,C</answer>",
                "path": "MER24/sample_1.mp4",
            },
        ],
    )


def mme_emotion(root: Path, task: str = "ER-Lab") -> None:
    put_video(root / task / "00012.mp4")
    item = {"video_id": "00012", "ground_truth": "happy", "label_set": ["happy", "sad"]}
    put_json(root / f"{task}.json", [item | {"question": "What does the person feel?"}])


LAYOUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "dfew": ("DFEW", dfew),
    "mafw": ("MAFW", mafw),
    "ravdess": ("RAVDESS", ravdess),
    "emobench_m_mosi": ("EmoBench-M", lambda root: emobench_m(root, "MOSI", "MOSI", ["positive"])),
    "emobench_m_meld": (  # a file name of the older archive
        "EmoBench-M",
        lambda root: emobench_m(root, "MELD_test_instruction", "MELD", ["joy", "anger"]),
    ),
    "emobench_m_mc_eiu": (
        "EmoBench-M",
        lambda root: emobench_m(
            root, "MC-EIU", "MC-EIU", ["{'emotion label': 'sad', 'intent label': 'wishing'}"]
        ),
    ),
    "emobench_m_smile": (
        "EmoBench-M",
        lambda root: emobench_m(root, "smile", "smile", ["The audience laughed because of him."]),
    ),
    "mmla_meld": ("MMLA", lambda root: mmla(root, "MELD", "emotion", ["joy", "anger"])),
    "mmla_meld_da": ("MMLA", lambda root: mmla(root, "MELD-DA", "dialogue act", ["answer"])),
    "intentbench": ("IntentBench", intentbench),
    "mme_emotion_er_lab": ("MME-Emotion", mme_emotion),
}
"""Data set of conf/dataset -> its folder below data_root, and what writes it."""
