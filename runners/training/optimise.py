"""Translates a recipe's settings for transformers' Trainer: precision, optimiser, memory."""

from collections.abc import Callable
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


def check_memory(
    model: "nn.Module", recipe: Recipe, device: "torch.device", tokens: Callable[[], int]
) -> None:
    """Raise PrerequisiteError where a GPU has no room for what comes beside the weights.

    `tokens` counts those of the longest batch.
    """
    from ovmer.baselines.device import free_memory, gib

    free = free_memory(device)
    if free is None:
        return
    count = tokens()
    needed = memory_needed(model, recipe, count)
    if needed > free:
        raise PrerequisiteError(
            f"the GPU is too small: beside the weights, steps of {count} tokens take about "
            f"{gib(needed)}, but {gib(free)} of {device} are free; {smaller(recipe)}"
        )
    say(f"beside the weights, steps of {count} tokens take about {gib(needed)} of {gib(free)}")


def smaller(recipe: Recipe) -> str:
    """What makes a step smaller, of the settings that are not yet at their least."""
    ways = [] if recipe.gradient_checkpointing else ["train.gradient_checkpointing=true"]
    if recipe.batch_size > 1:
        ways.append("a smaller train.batch_size with train.accumulate")
    if recipe.precision == "float32":
        ways.append("train.precision=bfloat16")
    return f"set {' or '.join(ways)}" if ways else "use a larger GPU"


def memory_needed(model: "nn.Module", recipe: Recipe, tokens: int) -> int:
    """Bytes beside the weights: an estimate from what a layer keeps for the backward pass.

    A number takes e bytes (2 in half precision, 4 in float32). A token keeps of each layer

        8 h               two norms, which compute in float32
        4 e h             queries, keys, values and the output of attention
        3 e i             the gate, its activation and its partner in the MLP
        (e + 1) w         the input of each adapter and the mask of its dropout, w wide in all;
                          without dropout e w

    for hidden size h and MLP size i; with gradient checkpointing e h, and all of one layer at a
    time. Scores take 12 bytes a word of the vocabulary: twice in float32, twice in half. Each
    trained parameter takes 16 (itself, its gradient, two moments of Adam).
    """
    llm: Any = model.llm
    config = llm.config
    layers, hidden, e = config.num_hidden_layers, config.hidden_size, _itemsize(llm)
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    adapted = sum(p.shape[1] for name, p in llm.named_parameters() if ".lora_A." in name)
    each = e + (recipe.lora.dropout > 0)
    one = (8 + 4 * e) * hidden + 3 * e * wide + each * adapted // layers
    kept = e * hidden * layers + one if recipe.gradient_checkpointing else one * layers
    count = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return int(16 * count + tokens * (kept + 12 * config.vocab_size))


def _itemsize(llm: Any) -> int:
    size: int = llm.get_input_embeddings().weight.dtype.itemsize
    return size


def choose_device(device: str) -> None:
    """Let a process that nobody launched beside others see one GPU: Trainer would take all that it
    sees, in one process, in a way that torch advises against."""
    import os

    if "LOCAL_RANK" in os.environ or "CUDA_VISIBLE_DEVICES" in os.environ or device == "cpu":
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2] or "0"
