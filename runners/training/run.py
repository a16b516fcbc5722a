"""One run of training, from the data to the last checkpoint.

    train.json              identity and settings, sessions, and why the last one ended
    checkpoint-STEP/        weights, and of the last one what resuming needs
    not_trained_on.jsonl    clips that were left out or replaced, with the reason
    sound_of_video.txt      clips without a sound file, heard in their video
    curve.csv, curve.png    loss and rate
    tensorboard/            the same for TensorBoard
    baseline/               trained.yaml, with which a sweep asks the last checkpoint; stepN.yaml
    miniature/              of a dry run: the checkpoint that was trained
    scores/, table.md       sweeps over the checkpoints (evaluation.py)

The same command goes on from the last checkpoint; another recipe on the same folder is refused.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import settings_from_overrides
from ovmer.runners.disk import lock, read_object, replace_file
from ovmer.runners.folder.identity import differences
from ovmer.runners.folder.provenance import provenance
from ovmer.runners.job import Job
from ovmer.runners.progress import say
from ovmer.runners.training.affectgpt import TrainableAffectGpt
from ovmer.runners.training.examples import (
    Example,
    ExampleOrder,
    TrainingSamples,
    digest,
    note_left_out,
    read_examples,
)
from ovmer.runners.training.port import TrainablePort
from ovmer.runners.training.settings import TrainSettings
from ovmer.runners.training.trainable import Trainable

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from ovmer.baselines.training.trainer import OurTrainer
    from ovmer.runners.training.evaluation import Evaluation

LEFT_OUT = "not_trained_on.jsonl"
NO_SOUND_FILE = "sound_of_video.txt"
_WHERE = ("dataset", "dataset.root", "data_root", "clips")
"""Settings that say which data there are."""


def folder_of(settings: TrainSettings, overrides: Sequence[str]) -> Path:
    """`outputs/train/<recipe>-<dataset>[-what differs, or the variant]`, a function of the
    configuration alone."""
    data = "+".join(settings.train.mixture) or str(settings.dataset["name"])
    words = [settings.train.name, data]
    if settings.train.step == "port":
        words.insert(1, str(settings.baseline["name"]))
    words += ["dry"] if settings.dry_run else []
    known = settings.identity | {"seed": settings.seed}
    if settings.variant:
        words.append(settings.variant)
        overrides = ()
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in known:
            words.append(f"{key.removeprefix('train.')}_{value}")
    name = "-".join(re.sub(r"[^\w.+]+", "_", word).strip("_") for word in words)
    return Path(settings.outputs) / "train" / name[:200]


def make_trainable(settings: TrainSettings, job: Job, folder: Path) -> Trainable:
    """What a recipe trains. Raises PrerequisiteError where its baseline cannot be trained so."""
    kind = TrainableAffectGpt if settings.train.step == "affectgpt" else TrainablePort
    return kind(settings, job, folder)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training run."""

    checkpoint: Path
    """The last one."""
    sweep: Sequence[str]
    """The settings of a sweep that asks it."""
    table: str
    """Figures of the checkpoints; empty where none were asked for."""


class TrainingRun:
    """A run folder of training and what is done in it."""

    def __init__(self, settings: TrainSettings, overrides: Sequence[str]) -> None:
        self.settings, self.overrides = settings, overrides
        self.job = Job(settings, tuple(overrides))  # which replaces the data set by own clips
        self.folder = folder_of(settings, overrides)
        self.recipe = settings.train
        self.is_first = int(os.environ.get("RANK", "0")) == 0
        self._notes: list[str] = []

    def examples(self) -> tuple[list[list[Example]], list[float]]:
        """The clips of each data set, and its share of the iterations."""
        recipe = self.recipe
        if not recipe.mixture:
            return [read_examples(self.settings.dataset, recipe.reasons, recipe.kinds)], [1.0]
        found = []
        for name in recipe.mixture:
            given = [f"dataset={name}", f"data_root={self.settings.data_root}"]
            dataset = settings_from_overrides(given).dataset
            dataset["visual"] = self.settings.dataset.get("visual", "frame")
            found.append(read_examples(dataset, recipe.reasons, recipe.kinds))
        return found, list(recipe.mixture.values())

    def train(self) -> "TrainingResult":
        """Train, or go on.

        Raises PrerequisiteError for whatever the user can change.
        """
        examples, shares = self.examples()
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            self._take(held)
            trainable = make_trainable(self.settings, self.job, self._for_miniature(held))
            usable = [self._usable(trainable, dataset) for dataset in examples]
            identity = self.settings.identity | self._about(trainable) | {"data": digest(usable)}
            self._check(identity)
            self._notes += self._heard_in_videos(trainable, usable)
            self._note(identity)
            try:
                return self._train(trainable, usable, shares)
            except PrerequisiteError as error:
                self._note(identity, problem=str(error))
                raise

    def _take(self, held: ExitStack) -> None:
        """Keep other runs out of the folder; of several processes the first one does."""
        if self.is_first:
            path = self.folder / ".lock"
            file = held.enter_context(path.open("w"))
            held.callback(lock(file.fileno(), path))

    def _for_miniature(self, held: ExitStack) -> Path:
        """Folder of a dry run's miniature; each process writes its own."""
        if self.is_first or not self.settings.dry_run:
            return self.folder
        return Path(held.enter_context(TemporaryDirectory()))

    def _usable(self, trainable: Trainable, examples: Sequence[Example]) -> list[Example]:
        """The clips that have what is read of them; the others are listed."""
        lost = {each.clip.name: why for each in examples if (why := trainable.lacks(each))}
        if not lost:
            return list(examples)
        name, why = next(iter(lost.items()))
        if self.is_first:
            note_left_out(self.folder / LEFT_OUT, lost)
            say(
                f"{len(lost)} of {len(examples)} clips are left out, the first {name!r} ({why}); "
                f"{self.folder / LEFT_OUT} lists them"
            )
        if len(lost) == len(examples):
            raise PrerequisiteError(
                f"no clip has what {self.recipe.name} reads, the first {name!r}: {why}; add it, or "
                f"choose a recipe that reads other files; {self.folder / LEFT_OUT} lists them"
            )
        return [each for each in examples if each.clip.name not in lost]

    def _heard_in_videos(
        self, trainable: Trainable, usable: Sequence[Sequence[Example]]
    ) -> list[str]:
        """A note on clips without a sound file, whose video's track is learned from; a file lists
        them."""
        every = [example for dataset in usable for example in dataset]
        names = [each.clip.name for each in every if trainable.hears_video(each)]
        if not names or not self.is_first:
            return []
        replace_file(self.folder / NO_SOUND_FILE, "".join(f"{n}\n" for n in names).encode())
        note = (
            f"{len(names)} of {len(every)} clips have no sound file, the first {names[0]!r}: the "
            f"video's own track is learned from; {NO_SOUND_FILE} lists them"
        )
        say(note)
        return [note]

    def _about(self, trainable: Trainable) -> dict[str, Any]:
        identity = trainable.job.identity
        about = {k: v for k, v in identity.items() if k.startswith("baseline.")}
        seeds = {"seed": self.settings.seed, "dataset": str(self.settings.dataset["name"])}
        seen = {"dataset.visual": self.settings.dataset.get("visual")}
        return about | seeds | seen | {"dry_run": self.settings.dry_run}

    def _check(self, identity: dict[str, Any]) -> None:
        """Raise PrerequisiteError where the folder was made by another recipe."""
        there = read_object(self.folder / "train.json")
        if there is None:
            return
        now = json.loads(json.dumps(identity, default=str))
        differing = [
            f"{key} ({json.dumps(before)} there, {json.dumps(value)} now)"
            for key, (before, value) in differences(there.get("identity", {}), now).items()
        ]
        if differing:
            raise PrerequisiteError(
                f"{self.folder} was made with other settings: {'; '.join(differing)[:600]}; give "
                "this run a folder of its own with variant=WORD, or remove that one"
            )

    def _note(self, identity: dict[str, Any], problem: str | None = None) -> None:
        if not self.is_first:
            return
        there = read_object(self.folder / "train.json") or {}
        sessions = there.get("sessions", [])
        if problem is None:
            sessions = [*sessions, {"overrides": list(self.overrides), **provenance()}]
        notes = list(self._notes)
        if self.recipe.features == "cached":
            notes.append(
                "encoder outputs were computed once, clip by clip and without noise: this is not "
                "the authors' training, whose HuBERT is in train mode"
            )
        content = {
            "identity": identity,
            "settings": asdict(self.settings),
            "notes": notes,
            "sessions": sessions,
            "problem": problem,
        }
        text = json.dumps(content, ensure_ascii=False, indent=1, default=str)
        replace_file(self.folder / "train.json", text.encode() + b"\n")

    def _train(
        self, trainable: Trainable, usable: Sequence[Sequence[Example]], shares: Sequence[float]
    ) -> "TrainingResult":
        import torch

        from ovmer.baselines.training.trainer import checkpoints, last_checkpoint, written_whole
        from ovmer.runners.training.evaluation import Evaluation
        from ovmer.runners.training.optimise import arguments, check_memory, precision

        recipe = self.recipe
        kind = precision(recipe, self.settings.machine.device)
        args = arguments(self.settings, self.folder, kind)
        batch = args.per_device_train_batch_size = self._batch_size(usable, args)
        torch.manual_seed(self.settings.seed)
        model = trainable.build(args.device, kind.weights)
        check_memory(
            model, recipe, args.device, lambda: batch * max(map(trainable.longest, usable))
        )
        if recipe.features == "cached":
            from ovmer.runners.training.features import keep_features

            keep_features(trainable, usable, Path(self.settings.outputs) / "train")
        evaluation = Evaluation(self.settings, trainable, self.folder)
        order = ExampleOrder(
            [len(dataset) for dataset in usable],
            shares,
            batch * args.world_size,
            recipe.steps * recipe.accumulate,
            self.settings.seed,
        )
        trainer = self._trainer(
            trainable, args, self._samples(trainable, usable), order, evaluation
        )
        last = last_checkpoint(self.folder)
        if last is None and self.is_first:
            with written_whole(self.folder, 0) as folder:
                trainable.save(folder, 0, 0.0)
        if last is not None and self.is_first:
            say(f"{self.folder} goes on from {last.name}")
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        return self._finish(trainable, evaluation, checkpoints(self.folder))

    def _trainer(
        self,
        trainable: Trainable,
        args: "TrainingArguments",
        samples: TrainingSamples,
        order: ExampleOrder,
        evaluation: "Evaluation",
    ) -> "OurTrainer":
        from ovmer.baselines.training.lora import trained
        from ovmer.baselines.training.schedule import parameter_groups
        from ovmer.baselines.training.step import ModelWithLoss
        from ovmer.baselines.training.trainer import OurTrainer
        from ovmer.runners.training.curve import write_curve
        from ovmer.runners.training.optimise import optimisers

        def saved(checkpoint: Path, history: Sequence[Mapping[str, Any]]) -> None:
            write_curve(self.folder, history)
            evaluation.saved(checkpoint)

        recipe, model = self.recipe, trainable.model
        groups = parameter_groups(trained(model).items(), recipe.weight_decay)
        return OurTrainer(
            ModelWithLoss(
                model, trainable.prompts, trainable.special_tokens, recipe.encoders == "train"
            ),
            args,
            samples=samples,
            order=order,
            save=trainable.save,
            restore=trainable.restore,
            optimizers=optimisers(recipe, groups),
            sums=recipe.accumulation == "sum",
            saved=saved,
        )

    def _finish(
        self, trainable: Trainable, evaluation: "Evaluation", found: Sequence[Path]
    ) -> "TrainingResult":
        """The figures of the checkpoints and the file for sweeps, by the first process."""
        from ovmer.runners.training.evaluation import TRAINED, write_baseline

        if not self.is_first:
            return TrainingResult(found[-1], (), "")
        for checkpoint in found:
            write_baseline(trainable, checkpoint)
        write_baseline(trainable, found[-1], TRAINED)
        data = [each for each in self.overrides if each.partition("=")[0] in _WHERE]
        named = any(each.startswith(("dataset=", "clips=")) for each in data)
        data += [] if named else [f"dataset={self.settings.dataset['name']}"]
        data += [f"dataset.visual={trainable.visual}"] if trainable.visual != "frame" else []
        asked = ["--config-dir", str(self.folder), f"baseline={TRAINED}", *map(quote, data)]
        return TrainingResult(found[-1], asked, evaluation.finish(found))

    def _batch_size(self, usable: Sequence[Sequence[Example]], args: "TrainingArguments") -> int:
        """That of the recipe; in a dry run no more than there are clips."""
        most = min(len(dataset) for dataset in usable) // args.world_size
        if self.settings.dry_run and most < self.recipe.batch_size:
            say(f"only {most} clips have all that is read, so batches are of {most}")
            return max(most, 1)
        return self.recipe.batch_size

    def _samples(
        self, trainable: Trainable, usable: Sequence[Sequence[Example]]
    ) -> TrainingSamples:
        return TrainingSamples(
            usable,
            trainable.sample,
            self.recipe.kinds,
            seed=self.settings.seed,
            draws=self.recipe.draws,
            broken=self.recipe.broken,
            listing=self.folder / LEFT_OUT,
        )
