"""Translates a recipe's settings for transformers' Trainer: precision, optimiser, memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.progress import say
from ovmer.runners.training.settings import Recipe, TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import TrainingArguments


@dataclass(frozen=True)
class PrecisionOf:
    """The type of the frozen language model, and whether steps run in mixed precision."""

    weights: "torch.dtype"
    bf16: bool
    fp16: bool
    on_cpu: bool


def precision(recipe: Recipe, device: str) -> PrecisionOf:
    """`auto` is bfloat16 on a GPU and float32 on a CPU, which has no float16 either."""
    import torch

    from ovmer.baselines.device import resolve

    placement = resolve(device)
    on_cpu = placement.device.type == "cpu"
    automatic = "float32" if on_cpu else "bfloat16"
    name = automatic if recipe.precision == "auto" else recipe.precision
    if on_cpu and name == "float16":
        say("float16 is for GPUs; this run is in float32 (train.precision=bfloat16 works on a CPU)")
        name = "float32"
    if not on_cpu and name == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise PrerequisiteError("this GPU has no bfloat16; set train.precision=float16 or float32")
    return PrecisionOf(getattr(torch, name), name == "bfloat16", name == "float16", on_cpu)


def arguments(settings: TrainSettings, folder: Path, kind: PrecisionOf) -> "TrainingArguments":
    """The arguments of the Trainer."""
    import os

    from transformers import TrainingArguments

    recipe = settings.train
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
    every = recipe.save_every or max(recipe.epoch // recipe.accumulate, 1)
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulate,
        max_grad_norm=recipe.clip,
        logging_steps=recipe.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=every,
        report_to=list(recipe.report_to) or "none",
        seed=settings.seed,
        bf16=kind.bf16,
        fp16=kind.fp16,
        use_cpu=kind.on_cpu,
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        remove_unused_columns=False,
        dataloader_num_workers=recipe.workers,
        ddp_find_unused_parameters=True,
        disable_tqdm=True,
    )


def optimisers(recipe: Recipe, groups: list[dict[str, Any]]) -> tuple[Any, Any]:
    """AdamW with the recipe's rate."""
    from transformers import get_scheduler

    from ovmer.baselines.training.schedule import AuthorsRate
    from ovmer.baselines.training.trainer import optimisers as with_rate

    rate = recipe.rate
    if rate.schedule == "authors":
        epochs = max(recipe.steps * recipe.accumulate // recipe.epoch, 1)
        rule = AuthorsRate(
            rate.init, rate.min, rate.warmup, rate.warmup_steps, recipe.epoch, epochs
        )
        return with_rate(groups, rule, recipe.accumulate)
    import torch

    optimizer = torch.optim.AdamW(groups, lr=rate.init, betas=(0.9, 0.999), eps=1e-8)
    name = "constant_with_warmup" if rate.schedule == "constant" else rate.schedule
    return optimizer, get_scheduler(name, optimizer, rate.warmup_steps, recipe.steps)


def check_memory(model: "nn.Module", recipe: Recipe, batch: int, device: "torch.device") -> None:
    """Raise PrerequisiteError where a GPU has no room for what comes beside the weights.

    Trained parameters take 16 bytes (gradient, two moments of Adam, a copy); activations 34 bytes a
    token, width and layer (Korthikanti et al., arXiv 2205.05198, without the attention matrix), or
    2 with gradient checkpointing; scores 10 bytes a token and word.
    """
    from ovmer.baselines.device import free_memory, gib

    free = free_memory(device)
    if free is None:
        return
    needed = memory_needed(model, recipe, batch)
    if needed > free:
        raise PrerequisiteError(
            f"the GPU is too small: beside the weights training takes about {gib(needed)}, but "
            f"{gib(free)} of {device} are free; set train.gradient_checkpointing=true, a smaller "
            "train.batch_size with train.accumulate, or train.max_length"
        )


def memory_needed(model: "nn.Module", recipe: Recipe, batch: int) -> int:
    """Bytes beside the weights, by the rule of `check_memory`."""
    llm: Any = model.llm
    config = llm.config
    count = sum(each.numel() for each in model.parameters() if each.requires_grad)
    tokens = batch * recipe.max_length
    a_token = 2 if recipe.gradient_checkpointing else 34
    activations = tokens * config.hidden_size * a_token * config.num_hidden_layers
    return int(16 * count + activations + 10 * tokens * config.vocab_size)


def choose_device(device: str) -> None:
    """Let a process that nobody launched beside others see one GPU: Trainer would take all that it
    sees, in one process, in a way that torch advises against."""
    import os

    if "LOCAL_RANK" in os.environ or "CUDA_VISIBLE_DEVICES" in os.environ or device == "cpu":
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2] or "0"
