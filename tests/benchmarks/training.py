"""Seconds an iteration of AffectGPT's training: `python -m tests.benchmarks.training`.

The miniature on the sample, batches of 3, one run after another in one process:

    authors   everything live and in the loop, one after the other: decoding, image processor,
              encoders, language model (the shape of the authors' loop without its workers)
    live      the same with decoding in worker processes
    cached    encoder outputs from files

With `--shapes 7b --device cuda` the language model and both encoders have the published sizes and
random weights, so that times are those of a real run; media are the sample's.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import CLIPVisionConfig, HubertConfig, Qwen2Config

from ovmer.baselines.training.affectgpt import AffectGptDesign, AffectGptInTraining, initialise
from ovmer.baselines.training.lora import attach, trained
from ovmer.baselines.training.schedule import parameter_groups
from ovmer.baselines.training.step import ModelWithLoss
from ovmer.baselines.training.trainer import collate
from ovmer.baselines.weights import weightless
from ovmer.runners.training.affectgpt import TrainableAffectGpt
from ovmer.runners.training.examples import ExampleOrder, TrainingSamples
from ovmer.runners.training.features import keep_features
from ovmer.runners.training.run import TrainingRun, make_trainable
from ovmer.runners.training.settings import compose_train
from tests.training.conftest import QWEN_7B

BATCH, WARM_UP = 3, 2
CLIP = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}
HUBERT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}


def published_sizes(trainable: TrainableAffectGpt, device: torch.device) -> AffectGptInTraining:
    """A model of the published sizes with random weights, on the device."""
    design = AffectGptDesign(lora=trainable.lora)
    with weightless():
        model = AffectGptInTraining(
            CLIPVisionConfig(**CLIP), HubertConfig(**HUBERT), Qwen2Config(**QWEN_7B), design
        )
    model.llm.to(torch.bfloat16)
    model.to_empty(device=device).requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    for part in (model.image, model.video, model.audio, model.multi):
        initialise(part.requires_grad_(True))
    if design.lora is not None:
        attach(model.llm, design.lora)
    return model


def iterations(
    trainable: TrainableAffectGpt, samples: TrainingSamples, order: ExampleOrder, workers: int
) -> Iterator[None]:
    """Train; yields after each update."""
    tuned = ModelWithLoss(
        trainable.model, trainable.prompts, trainable.frame, frozen_in_train_mode=True
    ).train()
    optimizer = torch.optim.AdamW(parameter_groups(trained(trainable.model).items(), 0.05), lr=1e-5)
    loader: Any = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=BATCH,
        sampler=order,
        collate_fn=collate,
        num_workers=workers,
    )
    device = trainable.model.llm.device
    for batch in loader:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = tuned(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        yield


def seconds(trainable: TrainableAffectGpt, run: TrainingRun, count: int, workers: int) -> float:
    """The mean of `count` iterations after the warm-up."""
    (examples,), _ = run.examples()
    usable = [
        each for each in examples if not trainable.lacks(each) and each.clip.name != "silent_smile"
    ]
    if run.recipe.features == "cached":
        keep_features(trainable, [usable], run.folder)
    samples = TrainingSamples(
        [usable],
        trainable.sample,
        run.recipe.kinds,
        seed=0,
        draws="clip",
        broken="replace",
        listing=run.folder / "left_out",
    )
    order = ExampleOrder([len(usable)], [1.0], BATCH, count + WARM_UP, seed=0)
    start = 0.0
    for number, _ in enumerate(iterations(trainable, samples, order, workers), 1):
        if number == WARM_UP:
            start = time.perf_counter()
    return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", choices=["miniature", "7b"], default="miniature")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as outputs:
        for name, workers, features in (
            ("authors", 0, "live"),
            ("live", given.workers, "live"),
            ("cached", 0, "cached"),
        ):
            settings = ["recipe=affectgpt_frame", "dry_run=true", f"outputs={outputs}"]
            settings += [f"train.features={features}", f"variant={name}"]
            run = TrainingRun(compose_train(settings), settings)
            run.folder.mkdir(parents=True)
            trainable = make_trainable(run.settings, run.job, run.folder)
            assert isinstance(trainable, TrainableAffectGpt)
            torch.manual_seed(0)
            device = torch.device(given.device)
            if given.shapes == "7b":
                trainable.model = published_sizes(trainable, device)
            else:
                trainable.build(device, torch.float32)
            found[name] = seconds(trainable, run, given.iterations, workers)
            del trainable
    for name, value in found.items():
        print(f"{name:<8} {value:.3f} s an iteration, {found['authors'] / value:.2f} x authors")


if __name__ == "__main__":
    main()
