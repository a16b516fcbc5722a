"""Group each clip's labels by meaning with a language model, and score by these groups.

ovmer group predictions=outputs/ovmerd/salmonn truth=true.csv replies=groups.jsonl
ovmer group predictions=outputs/ovmerd/salmonn dataset=ovmerd data_root=/data replies=groups.jsonl

The replies serve `ovmer score metric=grouping metric.replies=groups.jsonl` as well. The
papers asked gpt-3.5-turbo-16k-0613, which has been withdrawn: figures from another model are their
own, and tables name it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovmer.baselines.decoding.language_model import LanguageModel
from ovmer.baselines.errors import ClipError
from ovmer.runners import cli
from ovmer.runners.commands.score import OneRunSettings, compose_settings, read_truth, with_clusters
from ovmer.runners.config import MachineSettings
from ovmer.runners.extraction import make_language_model
from ovmer.runners.extraction.steps import clean_reply, grouping
from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.folder.imported import Origin, add_to_run, record
from ovmer.runners.foreign_text import visible
from ovmer.runners.progress import Progress, say
from ovmer.runners.scoring import make_metric
from ovmer.runners.scoring.label_files import Columns
from ovmer.runners.scoring.labels import parse_all
from ovmer.runners.scoring.parsing import string_to_list


@dataclass
class GroupSettings(OneRunSettings):
    """`conf/group.yaml`."""

    replies: str = "???"
    extractor: dict[str, Any] = field(default_factory=dict)
    outputs: str = "outputs"
    dry_run: bool = False
    machine: MachineSettings = field(default_factory=MachineSettings)


@cli.command
def main() -> int:
    """The command: asks, writes the replies, prints the score."""
    settings = compose_settings("group", GroupSettings, __doc__ or "")
    settings.check()
    path = Path(settings.predictions).expanduser()
    metric = make_metric({**settings.metric, "replies": {}})
    truth = read_truth(settings, metric)
    columns = Columns(metric.answer_columns, settings.columns.name, settings.columns.predictions)
    answers = read_labels(path, columns)
    clips = sorted(answers.values.keys() & truth.values.keys())
    model = make_language_model(settings.extractor)
    replies = _ask(model, settings.seed, clips, answers.values, truth.values)
    grouped_by = model.identity["model"]
    lines = [
        json.dumps({"name": name, "reply": replies[name], "grouped_by": grouped_by}) + "\n"
        for name in sorted(replies)
    ]
    Path(settings.replies).expanduser().write_text("".join(lines), encoding="utf-8")
    grouped = {"replies": replies, "grouped_by": grouped_by}
    scores = make_metric(settings.metric | grouped).score(
        answers.values, truth.values, settings.missing
    )
    scores.notes.extend(answers.notes + truth.notes)
    scores = with_clusters(settings, scores, path)
    if settings.bootstrap != 0:
        scores = scores.with_intervals(settings.bootstrap, settings.seed, settings.confidence)
    print(visible(str(scores)))
    kept = record(settings.record, scores, Origin(settings.predictions, settings.truth_name))
    if kept is not None:
        print(f"- kept for ovmer tables in {kept}")
    elif add_to_run(path, scores):
        print(f"- kept in {settings.predictions}/scores.json, for ovmer tables")
    if settings.output is not None:
        text = json.dumps(scores.as_json(), ensure_ascii=False, indent=2)
        Path(settings.output).expanduser().write_text(text + "\n", encoding="utf-8")
    return cli.FINE if len(replies) == len(clips) else cli.FAILED


def _ask(
    model: LanguageModel,
    seed: int,
    clips: Sequence[str],
    predictions: Mapping[str, Any],
    truth: Mapping[str, Any],
) -> dict[str, str]:
    """The model's cleaned reply for each clip; failures are printed."""
    predicted = parse_all(
        clips, [predictions[name] for name in clips], string_to_list, "prediction"
    )
    true = parse_all(clips, [truth[name] for name in clips], string_to_list, "truth")
    prompts = [grouping(predicted.of(i), true.of(i)).prompt for i in range(len(clips))]
    replies = {}
    try:
        with Progress(len(clips), "groups") as progress:
            for index, outcome in model.ask(prompts, seed):
                if isinstance(outcome, ClipError):
                    say(f"{clips[index]}: {outcome}")
                else:
                    replies[clips[index]] = clean_reply(outcome.text)
                progress.add()
    finally:
        model.engine.close()
    return replies
