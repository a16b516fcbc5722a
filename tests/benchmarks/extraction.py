"""Figures of extraction: `python -m tests.benchmarks.extraction engines|cached|lexicon`.

engines   questions a second on the miniature of Qwen2.5, 256 descriptions, up to 64 new tokens:
          transformers in padded batches and with continuous batching, three times in turn, then
          one by one (the authors' way without vLLM; an eighth of the questions) and vLLM; medians,
          by the clock and by the processor's time. Loading and the start of vLLM are left out; a
          few questions go first to warm up. The miniature is as deep as Qwen2.5-7B, and its
          tokenizer is trained on these descriptions, so that prompts are about as many tokens as
          with Qwen2.5's own; as there, seven query heads share keys and values. It takes some six
          minutes; with `engines 128` as many questions are asked.
cached    20,000 descriptions whose answers are all in the cache: the whole command, with the labels
          to be written, scored and exported.
lexicon   the extractor without a model on the 332 checked descriptions of EMER, official wheels.
"""

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from ovmer.baselines.chat import write_miniature
from ovmer.baselines.decoding.answer_cache import AnswerCache
from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.chat_models import ChatModelSource
from ovmer.baselines.decoding.continuous import ContinuousEngine
from ovmer.baselines.decoding.engine_settings import engine_settings
from ovmer.baselines.decoding.language_model import LocalTextEngine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.runners.extraction import ClipDescription, make_extractors
from ovmer.runners.extraction.steps import STEPS
from ovmer.runners.scoring import make_metric
from tests.runners.jobs import job

SHARED = Path(__file__).parents[2] / ".." / "shared"
QUESTIONS, WARM_UP = 256, 8
CLIPS = 20_000
PADDED, ALONE, VLLM = "transformers, padded", "transformers, one by one", "vLLM"
TURNS, REPEATS = (PADDED, "transformers"), 3


def engines(count: int = QUESTIONS) -> None:
    generation = GenerationSettings(repetition_penalty=1.05, max_new_tokens=64)
    with (SHARED / "emer" / "descriptions_332.csv").open(encoding="utf-8") as file:
        texts = [row["english"] for row in csv.DictReader(file)][: count + WARM_UP]
    questions = [(STEPS["labels"].render(reason=text), 0) for text in texts]
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        write_miniature(Path(place) / "mini", layers=28, heads=7, vocabulary=4000, sentences=texts)
        source = ChatModelSource.named(f"{place}/mini")
        for what in (*TURNS * REPEATS, ALONE, VLLM):
            keys: dict[str, Any] = (
                {"name": "vllm"} if what == VLLM else {"name": "transformers", "batch_size": 32}
            )
            some = questions
            if what == ALONE:
                keys["batch_size"] = 1
                some = questions[-WARM_UP - count // 8 :]
            padded = patch.object(ContinuousEngine, "supports", lambda *_: False)
            with padded if what == PADDED else nullcontext():
                engine = LocalTextEngine(
                    source, engine_settings(keys), generation, device="cpu", dtype="float32"
                )
                found.setdefault(what, []).append(taken(engine, some))
    clocks = {what: [each[0] for each in turns] for what, turns in found.items()}
    used = {what: [each[1] for each in turns] for what, turns in found.items()}
    for what in found:
        print(
            f"{what:26}{1 / median(clocks[what]):8.1f} questions/s  "
            f"{_ratios(clocks, what)} x by the clock, {_ratios(used, what)} x by processor time"
        )


def _ratios(seconds: dict[str, list[float]], what: str) -> str:
    """Median and range of the ratios to padded batches, turn by turn."""
    ratios = [a / b for a, b in zip(seconds[PADDED], seconds[what], strict=False)]
    return f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def taken(engine: LocalTextEngine, questions: list[tuple[str, int]]) -> tuple[float, float]:
    """Seconds by the clock and of the processor; the last questions go first, to warm up."""
    list(engine.stream(enumerate(questions[-WARM_UP:])))
    started, used = time.perf_counter(), time.process_time()
    found = dict(engine.stream(enumerate(questions[:-WARM_UP])))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    assert all(isinstance(each, Generated) for each in found.values())
    engine.close()
    return seconds / len(found), used / len(found)


def cached() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        run = prepared(place)
        command = [sys.executable, "-m", "ovmer", "extract", str(run), *settings(place)]
        for what in ("answers known, labels to do", "nothing to do"):
            started, used = time.perf_counter(), processor()
            subprocess.run(command, check=True, capture_output=True)
            wall, used = time.perf_counter() - started, processor() - used
            print(f"{CLIPS} descriptions, {what}: {wall:.2f} s ({used:.2f} s of processor)")
        with (run / "labels.jsonl").open(encoding="utf-8") as file:
            assert sum(1 for _ in file) == CLIPS


def processor() -> float:
    """Seconds that finished child processes have used of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def settings(place: Path) -> list[str]:
    return ["extractor=qwen25", f"outputs={place}", "dry_run=true"]


def prepared(place: Path) -> Path:
    """A run folder of 20,000 different descriptions, and the cache with an answer to each."""
    names = [f"sample_{number:08}" for number in range(CLIPS)]
    data = place / "data"
    data.mkdir()
    rows = "".join(f'{name},"[happy, sad]"\n' for name in names)
    (data / "track2_train_ovmerd.csv").write_text("name,openset\n" + rows)
    rows = "".join(f"{name},我很好,I am fine.\n" for name in names)
    (data / "subtitle_chieng.csv").write_text("name,chinese,english\n" + rows)
    made = job(
        *("baseline=scripted", "dataset=ovmerd", f"dataset.root={data}", f"outputs={place}"),
        "dataset.check_files=false",
    )
    from ovmer.runners.sweeping.work import work

    work(made)
    (made.folder / "labels.jsonl").unlink()
    predictions = made.folder / "predictions.jsonl"
    records = [json.loads(line) for line in predictions.read_text().splitlines()]
    lines, questions = [], []
    for number, record in enumerate(records):
        text = f"Clip {number}. " + 8 * "He smiles, and his voice is warm and quick. "
        lines.append(json.dumps({**record, "description": text}) + "\n")
        questions.append((STEPS["labels"].render(reason=text), 0))
    predictions.write_text("".join(lines))
    model = make_extractors(job(*settings(place)).settings.extractor)[0].model  # type: ignore[attr-defined]
    with AnswerCache(place / ".cache", model.identity) as answers:
        started = time.perf_counter()
        for number, question in enumerate(questions):
            answers.keep(question, Generated(f"[happy, word{number % 500}]"))
        print(f"{CLIPS} answers kept one by one in {time.perf_counter() - started:.2f} s")
    return made.folder


def lexicon() -> None:
    with (SHARED / "emer" / "descriptions_332.csv").open(encoding="utf-8") as file:
        items = [ClipDescription(row["name"], row["english"]) for row in csv.DictReader(file)]
    with (SHARED / "mer2024_ov" / "check-openset.csv").open(encoding="utf-8") as file:
        truth = {row["name"]: row["openset"] for row in csv.DictReader(file)}
    [extractor] = make_extractors({"kind": "lexicon", "name": "lexicon", "sentences": 4})
    found = {each.name: list(each.labels) for each in extractor.extract(items)}
    wheel = job("metric=wheel").settings.metric
    metric = make_metric({**wheel, "wheel_root": str(SHARED / "emotion_wheel")})
    print(metric.score(found, truth).with_intervals())


if __name__ == "__main__":
    {"engines": engines, "cached": cached, "lexicon": lexicon}[sys.argv[1]](*map(int, sys.argv[2:]))
