"""Learning rates and parameter groups, as the AffectGPT authors' runner has them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class AuthorsRate:
    """The learning rate of each iteration (my_affectgpt/common/optims.py, runner_base.py).

    Epochs count from 1, so a cosine starts one epoch late and ends before the last one, where it
    rises again; a warm-up longer than an epoch begins anew in each. With the released values, whose
    rates are equal and whose warm-up is as long as an epoch, it is constant from the first step.
    """

    init: float
    min: float
    warmup: float
    """Rate at the start of the warm-up; below 0 it is `init`."""
    warmup_steps: int
    iters_per_epoch: int
    epochs: int

    def __call__(self, iteration: int) -> float:
        """The rate of an iteration, counted from 0."""
        epoch, within = divmod(iteration, self.iters_per_epoch)
        total = (epoch + 1) * self.iters_per_epoch + within
        if total < self.warmup_steps:
            start = self.init if self.warmup < 0 else self.warmup
            return min(self.init, start + (self.init - start) * within / max(self.warmup_steps, 1))
        share = total / (self.epochs * self.iters_per_epoch)
        return (self.init - self.min) * 0.5 * (1 + math.cos(math.pi * share)) + self.min


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    """Matrices with decay, vectors without, and whatever has "bias", "ln" or "bn" in its name."""
    decayed, others = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in named:
        plain = parameter.ndim < 2 or any(part in name for part in ("bias", "ln", "bn"))
        (others if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
