"""Train AffectGPT as its authors do, or low-rank adapters in any port.

    ovmer train recipe=affectgpt dry_run=true           # the sample, a miniature, a minute
    ovmer train recipe=affectgpt data_root=/data        # the paper's run
    ovmer train recipe=lora baseline=salmonn dataset=ovmerd data_root=/data
    ovmer train baseline=qwen2_5_omni dataset=ovmerd train.export=swift    # data for ms-swift

The same command goes on from the last checkpoint. Settings are those of conf/train.yaml and of a
recipe in conf/recipe/, in Hydra's syntax: what `train.KEY` means is said in
runners/training/settings.py, and docs/training.md has the recipes. Several GPUs:
`accelerate launch $(which ovmer) train ...`.
"""

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.training.settings import TrainSettings, compose_train


@cli.command
def main() -> int:
    """The command: train, then print where the weights are and how to ask them."""
    given = parse(__doc__, overrides=None)
    settings = compose_train(given.overrides)
    if settings.train.export:
        return _export(settings, given.overrides)
    _need_peft()
    from ovmer.runners.training.optimise import choose_device
    from ovmer.runners.training.run import TrainingRun

    choose_device(settings.machine.device)
    run = TrainingRun(settings, given.overrides)
    result = run.train()
    if run.is_first:
        print(f"trained: {result.checkpoint}")
        print(f"to ask it: ovmer sweep {' '.join(result.sweep)}")
        if result.table:
            print(f"\n{result.table}")
    return cli.FINE


def _export(settings: TrainSettings, overrides: list[str]) -> int:
    from ovmer.runners.training.export import export
    from ovmer.runners.training.run import TrainingRun

    run = TrainingRun(settings, overrides)
    (examples, *more), _ = run.examples()
    folder = run.folder.with_name(f"{run.folder.name}-{settings.train.export}")
    print(export(settings, [*examples, *(each for one in more for each in one)], folder))
    return cli.FINE


def _need_peft() -> None:
    from importlib.util import find_spec

    if find_spec("peft") is None:
        raise PrerequisiteError("training needs peft; pip install 'ovmer[train]'")
