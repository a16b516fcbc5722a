"""transformers' Trainer with our order of clips, our files, and a stop at a loss of NaN.

A checkpoint appears whole or not at all: written to a temporary folder, forced to the disk and
renamed. Beside the weights it holds what resuming needs (optimiser, schedule, random states); of
older checkpoints only the weights stay, once a finite loss has come after the new one.
"""

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.training.step import ModelWithLoss

CHECKPOINT = "checkpoint-"
_PARTIAL = ".partial"
_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth")

Saver = Callable[[Path, int, float], None]
"""Writes the weights into a folder, given the number of iterations and their mean loss."""


class Stopped(PrerequisiteError):
    """Training cannot go on; what was saved is kept."""


class OurTrainer(Trainer):
    """Trains a `ModelWithLoss` on samples, in the order that `order` gives."""

    def __init__(
        self,
        model: ModelWithLoss,
        args: TrainingArguments,
        *,
        samples: Any,
        order: Iterable[Any],
        save: Saver,
        restore: Callable[[Path], None],
        optimizers: tuple[Any, Any],
        sums: bool = False,
        saved: Callable[[Path, Sequence[Mapping[str, Any]]], None] = lambda *_: None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """`order` yields indices of `samples`, one for each row of the run. `sums`: gradients of
        accumulated iterations are added, as the authors do, and not averaged. `saved` is called in
        the first process with each fresh checkpoint and all that was logged."""
        super().__init__(
            model,
            args,
            train_dataset=samples,
            data_collator=collate,
            optimizers=optimizers,
            callbacks=[_Progress(), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self._order = order
        self._write, self._restore = save, restore
        self._sums, self._saved = sums, saved
        self._losses: list[float] = []
        self._partial = False
        self._unproven = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        outputs = model(**inputs)
        loss: Tensor = outputs["loss"]
        value = loss.item()
        if not math.isfinite(value):
            raise Stopped(self._no_number(f"the loss is {value}"))
        if self._unproven and self.is_world_process_zero():
            forget_states(Path(self.args.output_dir), self.state.global_step)
        self._unproven = False
        self._losses.append(value)
        scaled = loss * self.current_gradient_accumulation_steps if self._sums else loss
        return (scaled, outputs) if return_outputs else scaled

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        try:
            return super().training_step(*arguments, **options)
        except torch.OutOfMemoryError as error:
            kept = last_checkpoint(Path(self.args.output_dir))
            raise Stopped(
                f"the GPU's memory was used up at step {self.state.global_step}; "
                f"{kept or 'no checkpoint'} is kept; run the same command again with "
                "train.gradient_checkpointing=true, which changes no result"
            ) from error

    def _no_number(self, problem: str) -> str:
        """Also lets a resumed run begin before a checkpoint that no finite loss came after."""
        rate, folder = self._get_learning_rate(), Path(self.args.output_dir)
        kind = "bfloat16" if self.args.bf16 else "float16" if self.args.fp16 else "float32"
        states = resumable(folder)
        if len(states) > 1 and step_of(states[-1]) == self.state.global_step:
            _forget(states[-1])
        kept = last_checkpoint(folder)
        return (
            f"{problem} at step {self.state.global_step} with a rate of {rate:g} in "
            f"{kind}; {kept or 'no checkpoint'} is kept; lower train.rate.init"
            + ("" if kind == "float32" else ", or set train.precision=bfloat16 or float32")
        )

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(self.args.output_dir)
        return str(folder / _PARTIAL if self._partial else folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder, first = Path(self.args.output_dir), self.is_world_process_zero()
        if any(not torch.isfinite(each).all() for each in model.parameters() if each.requires_grad):
            raise Stopped(self._no_number("trained weights are no numbers"))
        self._partial = True
        try:
            with written_whole(folder, self.state.global_step, first):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
        finally:
            self._partial = False
        self._losses.clear()
        self._unproven = self.state.global_step < self.state.max_steps
        if first and not self._unproven:
            forget_states(folder, self.state.global_step)
        if first:
            self._saved(folder / f"{CHECKPOINT}{self.state.global_step}", self.state.log_history)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if self.args.should_save:
            mean = sum(self._losses) / max(len(self._losses), 1)
            iterations = self.state.global_step * self.args.gradient_accumulation_steps
            self._write(folder, iterations, mean)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._restore(Path(resume_from_checkpoint))


@contextmanager
def written_whole(folder: Path, step: int, writes: bool = True) -> Iterator[Path]:
    """Context that fills `.partial/checkpoint-STEP`, then renames it, or deletes it on error.

    Of several processes one `writes`. Raises Stopped where the disk is full.
    """
    made = folder / _PARTIAL / f"{CHECKPOINT}{step}"
    final = folder / made.name
    if not writes:
        yield made
        return
    shutil.rmtree(made.parent, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        force_to_disk(made)
        shutil.rmtree(final, ignore_errors=True)
        made.rename(final)
    # torch and safetensors have errors of their own kinds for a disk without room.
    except Exception as error:
        if not is_full(error):
            raise
        kept = last_checkpoint(folder)
        raise Stopped(
            f"the disk of {folder} is full, so {final.name} was not saved; "
            f"{kept or 'no checkpoint'} is kept; make room and run the same command again"
        ) from error
    finally:
        shutil.rmtree(made.parent, ignore_errors=True)


def is_full(error: BaseException) -> bool:
    """Whether a disk without room is behind an error."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    text = str(error)
    return any(
        word in text
        for word in ("No space left", "file write failed", "unexpected pos", "File too large")
    )


def force_to_disk(folder: Path) -> None:
    """Make sure that the files of a folder survive a loss of power, where the system can."""
    for file in folder.iterdir():
        with file.open("rb") as opened:
            try:
                os.fsync(opened.fileno())
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, in their order; all of them are whole."""
    found = [each for each in folder.glob(f"{CHECKPOINT}*") if step_of(each) is not None]
    return sorted(found, key=lambda each: step_of(each) or 0)


def step_of(checkpoint: Path) -> int | None:
    """The number of optimiser steps; None for a folder of another name."""
    number = checkpoint.name.removeprefix(CHECKPOINT)
    return int(number) if number.isdecimal() else None


def resumable(folder: Path) -> list[Path]:
    """The checkpoints that training can go on from, in their order."""
    return [each for each in checkpoints(folder) if (each / "trainer_state.json").is_file()]


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that training can go on from."""
    states = resumable(folder)
    return states[-1] if states else None


def forget_states(folder: Path, step: int) -> None:
    """Remove what resuming needs from the checkpoints before that of a step."""
    for earlier in checkpoints(folder):
        if (step_of(earlier) or 0) < step:
            _forget(earlier)


def _forget(checkpoint: Path) -> None:
    for pattern in ("trainer_state.json", *_FOR_RESUMING):
        for file in checkpoint.glob(pattern):
            file.unlink()


def collate(samples: Sequence[Any]) -> dict[str, Any]:
    """A batch is a list: rows are filled up when their length is known. None is a broken clip."""
    found = [sample for sample in samples if sample is not None]
    if not found:
        raise Stopped(
            "no clip of a batch can be read; `ovmer check` looks at the files of a data set"
        )
    return {"samples": found}


class _Progress(TrainerCallback):
    """A bar with loss, rate, samples a second and the time that is left."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True
            )
            self._start = (time.monotonic(), state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if self._bar is None or not logs or "loss" not in logs:
            return
        since, first = self._start
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        done = (state.global_step - first) * rows
        self._bar.set_postfix(
            {
                "loss": f"{float(logs['loss']):.3f}",
                "rate": f"{float(logs['learning_rate']):.1e}",
                "samples/s": f"{done / max(time.monotonic() - since, 1e-9):.2f}",
            }
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._bar is not None:
            self._bar.close()


def optimisers(
    groups: list[dict[str, Any]], rate: Callable[[int], float], accumulate: int
) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW at betas 0.9 and 0.999, whose rate at each step is that of its last iteration."""
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate((step + 1) * accumulate - 1)
    )
    return optimizer, scheduler
