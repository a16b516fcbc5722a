"""What training writes, the adapter's model reads: the same prompts and the same scores."""

from pathlib import Path

import pytest
import torch

from ovmer.adapters.affectgpt_prompts import FOR_CLIPS
from ovmer.adapters.models.affectgpt import AffectGptAdapter
from ovmer.baselines.checkpoint import Loading
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError, PrerequisiteError
from ovmer.baselines.layers.qformer import QFormerConfig
from ovmer.baselines.models.affectgpt import (
    AffectGpt,
    AffectGptInputs,
    centre,
    preprocess,
)
from ovmer.baselines.models.affectgpt_fusion import MEAN, QFORMER, FusionConfig, FusionConfigs
from ovmer.baselines.models.affectgpt_miniature import write_miniature
from ovmer.baselines.training import lora as port
from ovmer.baselines.training.affectgpt import (
    LORA_TARGETS,
    AffectGptDesign,
    AffectGptInTraining,
    FrozenPrecision,
    TrainingInputs,
    write_checkpoint,
)
from ovmer.baselines.training.lora import Lora

CPU = torch.device("cpu")
SMALL = QFormerConfig(0, layers=2, cross_attention_every=1, width=32, heads=4, ffn=64)
RANK = Lora(4, 32, 0.05, LORA_TARGETS)
DESIGNS = {
    "released": AffectGptDesign(lora=RANK),
    "mean": AffectGptDesign(FusionConfigs(FusionConfig(MEAN), FusionConfig(MEAN)), RANK),
    "qformer": AffectGptDesign(
        FusionConfigs(*[FusionConfig(QFORMER, tokens, SMALL) for tokens in (3, 2, 4)]), RANK
    ),
    "two tokens": AffectGptDesign(FusionConfigs(*[FusionConfig(tokens=2)] * 3), RANK),
    "no adapters": AffectGptDesign(lora=None),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("miniature")
    return write_miniature(folder, 0, "run/checkpoint_000000_loss_0.000.pth")


def config_of(design: AffectGptDesign) -> dict:
    fusions = design.fusions
    tokens = {
        f"num_{name}_query_token": getattr(fusions, name).tokens
        for name in ("video", "audio", "multi")
    }
    return {"model": tokens | {"frozen_llm": design.lora is None, "qformer_heads": SMALL.heads}}


def trained_model(parts: dict[str, Path], design: AffectGptDesign) -> AffectGptInTraining:
    torch.manual_seed(0)
    model = AffectGptInTraining.build(parts, CPU, FrozenPrecision(), design)
    with torch.no_grad():  # so that adapters change something
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.02)
    return model.eval()


def load(
    parts: dict[str, Path], file: Path, tuned: Path | None = None, kind: type[AffectGpt] = AffectGpt
) -> AffectGpt:
    loading = Loading({}, {"tuned": tuned} if tuned else {})
    placement = Placement(CPU, torch.float32, loading=loading)
    return kind.load(file, parts["llm"], parts["clip"], parts["hubert"], placement)


@pytest.mark.parametrize("name", DESIGNS)
def test_the_adapters_model_gives_the_same_scores(parts, tmp_path, name):
    design = DESIGNS[name]
    model = trained_model(parts, design)
    file = write_checkpoint(model, tmp_path, 1, 0.5, config_of(design))
    frames = torch.randint(0, 256, (8, 224, 224, 3), dtype=torch.uint8)
    sound = torch.randn(8, 32000)
    texts, slots = [[5, 6], [7], [8], [9, 10]], ("multi", "audio", "face")
    media = {"face": frames, "audio": centre(sound)}
    with torch.inference_mode():
        (ours,) = model.prompts([TrainingInputs(texts, slots, media)])
        loaded = load(parts, file)
        theirs = loaded.embed(AffectGptInputs(texts, frames, preprocess(sound.numpy())))
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=2e-5 * float(ours.abs().max()))
        ours, theirs = (each.llm(inputs_embeds=ours[None]).logits for each in (model, loaded))
        assert torch.allclose(ours, theirs, atol=2e-5 * float(ours.abs().max()))


def test_a_checkpoint_is_a_start_for_the_same_design_alone(parts, tmp_path):
    model = trained_model(parts, DESIGNS["released"])
    file = write_checkpoint(model, tmp_path, 1, 0.5, {})
    again = AffectGptInTraining.build(parts, CPU, FrozenPrecision(), DESIGNS["released"], file)
    for name, tensor in model.published().items():
        assert torch.equal(tensor, again.published()[name]), name
    for other, sentence in (("mean", "have no place"), ("qformer", "lacks")):
        with pytest.raises(CheckpointError, match=sentence):
            AffectGptInTraining.build(parts, CPU, FrozenPrecision(), DESIGNS[other], file)


def test_without_adapters_a_file_must_say_so(parts, tmp_path):
    model = trained_model(parts, DESIGNS["no adapters"])
    file = write_checkpoint(model, tmp_path, 1, 0.5, {})
    with pytest.raises(CheckpointError, match="low-rank adapters"):
        load(parts, file)


def test_hubert_in_train_mode_is_noisy_and_keeps_its_layers_in_order(parts):
    clip = TrainingInputs([[1], [2]], ("audio",), {"audio": torch.randn(8, 32000)})
    noisy = trained_model(parts, AffectGptDesign(lora=RANK, encoders_in_train_mode=True)).train()
    quiet = trained_model(parts, AffectGptDesign(lora=RANK, encoders_in_train_mode=False)).eval()
    first, second = (noisy.encode([clip])[0]["audio"] for _ in range(2))
    assert not torch.equal(first, second)
    noisy.eval()
    assert torch.equal(noisy.encode([clip])[0]["audio"], quiet.encode([clip])[0]["audio"])


def test_tuned_ports_get_the_weights_that_were_trained(parts, tmp_path):
    def fresh() -> AffectGpt:
        return load(parts, parts["trained"])

    model = fresh()
    port.attach(model.llm, RANK)
    model.video.requires_grad_(True)
    with torch.no_grad():
        for parameter in port.trained(model).values():
            parameter.normal_(std=0.05)
    port.save(model, RANK, tmp_path, {"llm": "its hash"})
    assert port.trained_beside(tmp_path, model) == {"llm": "its hash"}
    files = [tmp_path / "adapter_model.safetensors", tmp_path / "connector.safetensors"]
    written = [file.read_bytes() for file in files]
    for _ in range(3):  # whose metadata the library orders by chance
        port.save(model, RANK, tmp_path, {"llm": "its hash"})
        assert [file.read_bytes() for file in files] == written
    ids = torch.arange(6)[None]
    tuned = load(parts, parts["trained"], tmp_path)
    with torch.inference_mode():
        ours, theirs = (each.llm.eval()(ids).logits for each in (model, tuned))
    assert torch.allclose(ours, theirs, atol=2e-5 * float(ours.abs().max()))
    assert torch.equal(tuned.video.projector.weight, model.video.projector.weight)
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        load(parts, parts["trained"], tmp_path / "nowhere")
    # A model of the same shapes is another model all the same.
    another = type("Another", (AffectGpt,), {})
    sentence = "adapter_model.safetensors was trained in AffectGpt, and this model is Another"
    with pytest.raises(CheckpointError, match=sentence):
        load(parts, parts["trained"], tmp_path, another)
    model.__class__ = another
    with pytest.raises(CheckpointError, match=sentence):
        port.restore(model, tmp_path)


@pytest.mark.parametrize("name", FOR_CLIPS)
def test_templates_say_what_the_adapter_is_given(name):
    both = {"faceframe", "multiface_audio_face_frame_text"}
    if name in both:
        with pytest.raises(PrerequisiteError, match="reads faces and frames"):
            AffectGptAdapter(prompted=name)
        return
    adapter = AffectGptAdapter(prompted=name)
    assert ("audio" in adapter.modalities) == ("audio" in name or "multi" in name or name in (
        "face", "frame"
    ))  # fmt: skip
    assert ("subtitle" in adapter.modalities) == (
        name not in ("audioonly", "faceonly", "frameonly")
    )
    asked = "".join(adapter.template)
    assert asked.count("{question}") == 1
    assert "{subtitle}" not in asked
