"""Our training against numbers that the AffectGPT authors' runner produced.

`--golden-training-root DIR` names others: a folder of the form of tests/golden_training/affectgpt
(or one that holds such folders), its checkpoint at ../../golden/affectgpt/checkpoint from it. Each
`case_KIND*.npz` is checked by the function of its kind, and every array of it must be used. What is
allowed is what the README beside the recorded numbers advises; ids and masks must be the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from ovmer.adapters.affectgpt_prompts import ANSWERS, QUESTIONS, TEMPLATES, Template
from ovmer.baselines.errors import Unreadable
from ovmer.baselines.layers.qformer import QFormerConfig
from ovmer.baselines.models.affectgpt_fusion import MEAN, QFORMER, FusionConfig
from ovmer.baselines.training.affectgpt import AffectGptInTraining, write_checkpoint
from ovmer.baselines.training.schedule import AuthorsRate, parameter_groups
from ovmer.baselines.training.step import ModelWithLoss, Sample
from ovmer.baselines.training.trainer import OurTrainer, optimisers
from tests.golden_checks import Case, assert_close
from tests.golden_runner import FRAME, Golden, names_of, prompt_ids, same_ids

SHIPPED = Path(__file__).parent / "golden_training"

LOSS = 2e-5  # absolute
GRADIENT = 1e-2  # of a tensor's norm, relative
# Of all the deviations from upstream's order of additions the largest that was measured is 7e-4.
EMBEDS = 2e-3  # absolute, of a sum over the width
VECTORS = 2e-5  # of the largest value


def folders(root: Path) -> list[Path]:
    if any(root.glob("case*.npz")):
        return [root]
    return sorted(each for each in root.iterdir() if any(each.glob("case*.npz")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        root = metafunc.config.getoption("golden_training_root")
        pairs = [(f, case) for f in folders(root) for case in sorted(f.glob("case*.npz"))]
        ids = [f"{folder.name}-{case.stem}" for folder, case in pairs]
        metafunc.parametrize(("folder", "case"), pairs, ids=ids)


def test_root_holds_cases(request: pytest.FixtureRequest) -> None:
    root = request.config.getoption("golden_training_root")
    assert folders(root), f"{root} holds no case*.npz"


def test_agrees_with_the_authors_runner(folder: Path, case: Path, tmp_path: Path) -> None:
    kind = case.stem.split("_")[1]
    assert kind in CHECKS, f"{case.name}: there is no check of the kind {kind}"
    with np.load(case, allow_pickle=False) as file:
        arrays = Case(file)
    CHECKS[kind](Golden(folder, tmp_path), arrays)
    arrays.assert_read({})


def same_gradients(
    model: AffectGptInTraining, names: np.ndarray, norms: np.ndarray, tolerance: float = GRADIENT
) -> None:
    found = {
        name: float(each.grad.norm())
        for name, each in names_of(model).items()
        if each.grad is not None
    }
    assert set(found) == set(names.tolist())
    for name, norm in zip(names.tolist(), norms.tolist(), strict=True):
        # Of a tensor whose gradient is nothing but rounding there is nothing to compare.
        assert found[name] == pytest.approx(norm, rel=tolerance, abs=1e-6), name


def check_masks(golden: Golden, case: Case) -> None:
    for name, needed, prompt in zip(
        case["variants"], case["needed_data"], case["prompts"], strict=True
    ):
        assert TEMPLATES[str(name)].replace("{question}", "{user_message}") == prompt, name
        assert Template.of(str(name)).reads == set(filter(None, str(needed).split(","))), name
    assert set(case["variants"].tolist()) <= set(TEMPLATES)
    for kind, question, answer in zip(
        case["qa_kinds"], case["qa_questions"], case["qa_answers"], strict=True
    ):
        assert QUESTIONS[str(kind)] == question
        assert ANSWERS[str(kind)].replace("{valence:.2f}", "0.50") == answer
    for key in [key for key in case if key.startswith("ids_")]:
        _, sample, kind = key.split("_", 2)
        row = golden.row(sample, kind)
        prompt = prompt_ids(row)
        assert case[key].tolist() == [*prompt, *row.answer], key
        expected = [-100] * len(prompt) + list(row.answer)
        assert case[key.replace("ids_", "labels_")].tolist() == expected, key
    batch = zip(case["batch_sample"], case["batch_label_type"], strict=True)
    same_ids(
        [golden.row(str(sample), str(kind)) for sample, kind in batch],
        case["batch_input_ids"],
        case["batch_labels"],
        case["batch_attention_masks"],
    )
    same_limits(golden, case)


def same_limits(golden: Golden, case: Case) -> None:
    """Which lengths are accepted, of the first clip's labels."""
    row = golden.row("s0", "ovlabel")
    assert [len(prompt_ids(row)), len(row.answer)] == case["limits_prompt_target"].tolist()
    for limit, accepted, length, ignored in case["limits"].tolist():
        if not accepted:
            with pytest.raises(Unreadable, match="tokens"):
                golden.row("s0", "ovlabel", limit=limit)
            continue
        row = golden.row("s0", "ovlabel", limit=limit)
        assert len(prompt_ids(row)) + len(row.answer) == length
        assert len(prompt_ids(row)) == ignored


def check_variants(golden: Golden, case: Case) -> None:
    tags = dict.fromkeys(key.split("|")[0] for key in case if "|" in key)
    samples = {key: case[key] for key in ("sample", "label_type")}
    for tag in tags:
        arrays = {key.split("|")[1]: case[key] for key in case if key.startswith(f"{tag}|")}
        setting, _, name = tag.rpartition(":")
        tokens = 2 if setting == "two_tokens" else 1
        fusions = dict.fromkeys(("video", "audio", "multi"), FusionConfig(tokens=tokens))
        start = None
        if setting == "mean_fusion":
            fusions |= dict.fromkeys(("video", "audio"), FusionConfig(MEAN))
            start = golden.without("video_attention_mlp", "audio_attention_mlp")
        rows = golden.rows(samples, name=name, tokens=tokens)
        same_ids(rows, arrays["input_ids"], arrays["labels"], arrays["attention_masks"], tokens)
        model = golden.model(start, **fusions)
        tuned = ModelWithLoss(model, model.prompts, FRAME)
        embeds = tuned.batch(rows).embeds.detach().sum(dim=-1).numpy()
        assert np.abs(embeds - arrays["inputs_embeds_sum"]).max() < EMBEDS, tag
        loss = tuned(rows)["loss"]
        loss.backward()
        assert loss.item() == pytest.approx(float(arrays["loss"]), abs=LOSS), tag
        same_gradients(model, arrays["grad_names"], arrays["grad_norms"])


def check_loudness(golden: Golden, case: Case) -> None:
    quiet = [key for key in case if key.startswith("waveform_int16_quiet_")]
    for key in quiet:
        golden.inputs[key.replace("_quiet", "")] = case[key]
    rows = golden.rows(case)
    model = golden.model()
    clips = [row.inputs for row in rows]
    together = torch.stack([each["audio"] for each in model.encode(clips)])
    alone = torch.stack([model.encode([clip])[0]["audio"] for clip in clips])
    assert_close("in batch", together, case["audio_hidden_in_batch"], VECTORS)
    assert_close("alone", alone, case["audio_hidden_alone"], VECTORS)
    loss = ModelWithLoss(model, model.prompts, FRAME)(rows)["loss"]
    assert loss.item() == pytest.approx(float(case["loss"]), abs=LOSS)


def check_schedule(golden: Golden, case: Case) -> None:
    for tag in [key for key in case if "|" not in key]:
        low, least, warm, steps, iters, epochs = case[
            f"{tag}|init_min_warmup_steps_iters_epochs"
        ].tolist()
        rate = AuthorsRate(low, least, warm, int(steps), int(iters), int(epochs))
        found = [rate(iteration) for iteration in range(len(case[tag]))]
        assert np.allclose(found, case[tag], rtol=1e-9, atol=0), tag


def check_qformer(golden: Golden, case: Case) -> None:
    settings = dict(each.split("=") for each in case["settings"].tolist())
    bert = dict(each.split("=") for each in case["bert_config"].tolist())
    sizes = QFormerConfig(
        encoder_width=0,
        layers=2,
        cross_attention_every=1,
        width=int(bert["hidden_size"]),
        heads=int(bert["num_attention_heads"]),
        ffn=int(bert["intermediate_size"]),
    )
    fusions, unused = {}, []
    for name, alone in (
        ("video", ["video_attention_mlp"]),
        ("audio", ["audio_attention_mlp"]),
        ("multi", ["attention_mlp", "fc_att"]),
    ):
        if settings.get(f"{name}_fusion_type") == "qformer":
            fusions[name] = FusionConfig(QFORMER, int(settings[f"num_{name}_query_token"]), sizes)
            unused += alone
    weights = {
        key.removeprefix("weight|"): torch.from_numpy(case[key])
        for key in case
        if key.startswith("weight|")
    }
    model = golden.model(golden.without(*unused, **weights), **fusions)
    rows = golden.rows(case)
    clips = [row.inputs for row in rows]
    vectors = model.encode(clips)
    seen, heard = (torch.stack([each[kind] for each in vectors]) for kind in ("face", "audio"))
    found = {
        "video_llm": model.video(seen),
        "audio_llm": model.audio(heard),
        "multi_hidden": model.multi.mix(seen, heard),
        "multi_llm": model.multi(seen, heard),
    }
    for key, each in found.items():
        assert_close(key, each.detach(), case[key], VECTORS)
    tokens = {name: fusion.tokens for name, fusion in fusions.items()}
    same_ids_of(rows, case, tokens)
    loss = ModelWithLoss(model, model.prompts, FRAME)(rows)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(float(case["loss"]), abs=LOSS)
    same_gradients(model, case["grad_names"], case["grad_norms"])
    without = {name for name, each in names_of(model).items() if each.grad is None}
    assert without == set(case["no_grad_names"].tolist())


def same_ids_of(rows: Sequence[Sample], case: Case, tokens: dict[str, int]) -> None:
    """As `same_ids`, with a number of placeholders for each kind of slot."""
    counts = {"face": tokens.get("video", 1), "frame": tokens.get("video", 1)} | {
        name: tokens.get(name, 1) for name in ("audio", "multi")
    }
    repeated = []
    for row in rows:
        texts, slots = [row.inputs.texts[0]], []
        for slot, text in zip(row.inputs.slots, row.inputs.texts[1:], strict=True):
            slots += [slot] * counts[slot]
            texts += [[]] * (counts[slot] - 1) + [text]
        repeated.append(replace(row, inputs=replace(row.inputs, texts=texts, slots=slots)))
    same_ids(repeated, case["input_ids"], case["labels"], case["attention_masks"])


def check_steps(golden: Golden, case: Case) -> None:
    for tag in dict.fromkeys(key.split("|")[0] for key in case):
        steps_of(golden, {
            key.split("|", 1)[1]: case[key] for key in case if key.startswith(f"{tag}|")
        })  # fmt: skip


class Recorder(TrainerCallback):
    """Gradients and rates just before each optimiser step."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.norms: list[dict[str, float]] = []
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.norms.append(
            {
                name: -1.0 if each.grad is None else float(each.grad.norm())
                for name, each in self.parameters.items()
            }
        )
        self.rates.append(others["optimizer"].param_groups[0]["lr"])


def steps_of(golden: Golden, case: dict[str, np.ndarray]) -> None:
    settings = {k: float(v) for k, v in (each.split("=") for each in case["settings"].tolist())}
    accumulate, iters = int(settings["accum_grad_iters"]), int(settings["iters_per_epoch"])
    rate = AuthorsRate(
        settings["init_lr"],
        settings["min_lr"],
        settings["warmup_lr"],
        int(settings["warmup_steps"]),
        iters,
        int(settings["max_epoch"]),
    )
    plan = np.stack([case["plan_sample"].astype(str), case["plan_label_type"].astype(str)], axis=-1)
    model = golden.model()
    tuned = Losses(model, model.prompts, FRAME)
    parameters = names_of(model)
    before = {name: each.detach().clone() for name, each in parameters.items()}
    recorder = Recorder(parameters)
    groups = parameter_groups(parameters.items(), settings["weight_decay"])
    same_groups(parameters, groups, case)
    files = [write_checkpoint(model, golden.scratch, 0, 0.0, {})]
    trainer = OurTrainer(
        tuned,
        TrainingArguments(
            str(golden.scratch),
            max_steps=len(plan) // accumulate,
            per_device_train_batch_size=plan.shape[1],
            gradient_accumulation_steps=accumulate,
            max_grad_norm=0.0,
            save_strategy="steps",
            save_steps=iters // accumulate,
            report_to="none",
            use_cpu=True,
            remove_unused_columns=False,
            disable_tqdm=True,
        ),
        samples=[golden.row(f"s{sample}", kind) for sample, kind in plan.reshape(-1, 2).tolist()],
        order=range(plan.size // 2),
        save=lambda folder, iteration, loss: files.append(
            write_checkpoint(model, folder, iteration // iters, loss, {})
        ),
        restore=model.restore,
        optimizers=optimisers(groups, rate, accumulate),
        sums=True,
        callbacks=[recorder],
    )
    trainer.train()
    same_run(case, tuned.losses, rate, recorder, accumulate)
    largest = max(case["lr"].tolist())
    changes = {name: (each.detach() - before[name]).numpy() for name, each in parameters.items()}
    same_changes({k[6:]: v for k, v in case.items() if k.startswith("delta|")}, changes, largest)
    same_files(golden, case, files)


class Losses(ModelWithLoss):
    """Keeps the loss of each iteration."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.losses: list[float] = []

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        found = super().forward(samples)
        self.losses.append(found["loss"].item())
        return found


def same_groups(parameters: dict[str, nn.Parameter], groups: list[dict], case: dict) -> None:
    assert [len(group["params"]) for group in groups] == case["group_sizes"].tolist()
    assert np.allclose([g["weight_decay"] for g in groups], case["group_weight_decay"])
    names = {id(each): name for name, each in parameters.items()}
    found = {
        f"{place} {names[id(each)]}"
        for place, group in enumerate(groups)
        for each in group["params"]
    }
    assert found == set(case["group_of"].tolist())


def same_run(
    case: dict, losses: list[float], rate: AuthorsRate, recorder: Recorder, accumulate: int
) -> None:
    assert np.allclose(losses, case["loss"], rtol=0, atol=LOSS)
    assert np.allclose([rate(i) for i in range(len(losses))], case["lr"], rtol=1e-9)
    assert np.allclose(recorder.rates, case["lr"][accumulate - 1 :: accumulate], rtol=1e-9)
    for norms, expected in zip(recorder.norms, case["grad_norms"], strict=True):
        for name, norm in zip(case["grad_names"].tolist(), expected.tolist(), strict=True):
            assert norms[name] == pytest.approx(norm, rel=GRADIENT, abs=1e-6), name


def same_changes(
    expected: dict[str, np.ndarray], found: dict[str, np.ndarray], largest: float
) -> None:
    assert set(expected) == set(found)
    for name, change in expected.items():
        assert np.abs(found[name] - change).max() <= 0.2 * largest, name
        if change.size > 1:
            difference = np.linalg.norm(found[name] - change)
            assert difference <= 1e-2 * np.linalg.norm(change) + 1e-12, name


def same_files(golden: Golden, case: dict, files: list[Path]) -> None:
    assert [file.name for file in files] == case["files"].tolist()
    (last,) = golden.scratch.glob(f"checkpoint-*/{files[-1].name}")
    content = torch.load(last, weights_only=True)
    assert set(content) == set(case["checkpoint_keys"].tolist())
    assert set(content["model"]) == set(case["checkpoint_model_keys"].tolist())


CHECKS: dict[str, Callable[[Golden, Case], None]] = {
    "masks": check_masks,
    "variants": check_variants,
    "loudness": check_loudness,
    "schedule": check_schedule,
    "qformer": check_qformer,
    "steps": check_steps,
}
