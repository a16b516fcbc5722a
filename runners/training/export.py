"""The samples as jsonl for ms-swift or LLaMA-Factory, which train transformers' chat models.

One line a clip and kind: the question with a placeholder for each medium, the answer, and the
files. The adapter that they make is loaded with `+baseline.checkpoint.adapter.path=FOLDER` where
the baseline takes one.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ovmer.adapters.affectgpt_prompts import question_and_answer
from ovmer.runners.disk import replace_file
from ovmer.runners.training.examples import Example
from ovmer.runners.training.settings import TrainSettings

_INFO = {
    "ovmer": {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "videos": "videos", "audios": "audios"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
}
"""dataset_info.json of LLaMA-Factory."""


def export(settings: TrainSettings, examples: Sequence[Example], folder: Path) -> Path:
    """Write train.jsonl (and for LLaMA-Factory dataset_info.json) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in _rows(settings, examples)]
    replace_file(folder / "train.jsonl", "".join(f"{line}\n" for line in lines).encode())
    if settings.train.export == "llama_factory":
        replace_file(folder / "dataset_info.json", json.dumps(_INFO, indent=1).encode() + b"\n")
    return folder / "train.jsonl"


def _rows(settings: TrainSettings, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
    wanted = settings.baseline.get("modalities", ["video", "audio"])
    for example in examples:
        clip = example.clip
        media = {
            "video": clip.video if "video" in wanted or wanted == "both" else None,
            "audio": clip.audio if "audio" in wanted or wanted == "both" else None,
        }
        marks = "".join(f"<{kind}>" for kind, path in media.items() if path is not None)
        for kind in settings.train.kinds:
            question, answer = question_and_answer(kind, example.values)
            asked = settings.train.questions.get(kind)
            if asked is not None:
                question = asked.replace("{subtitle}", clip.subtitle or "")
            elif settings.subtitle == "prompt" and clip.subtitle:
                question = f"The subtitle of this video is: {clip.subtitle} {question}"
            yield {
                "messages": [
                    {"role": "user", "content": marks + question},
                    {"role": "assistant", "content": answer},
                ],
                **{f"{k}s": [str(p.absolute())] for k, p in media.items() if p is not None},
            }
