"""LLaMA-VID's modules and its published files, on a miniature. (Golden data pin the numbers.)"""

import json

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.llama_vid import LlamaVid, read_sizes, write_miniature
from ovmer.baselines.prompt_sizes import PromptSizes
from tests.baselines.tensors import frames

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("llama_vid"), seed=0)


@pytest.fixture(scope="module")
def model(published):
    return LlamaVid.load(**published, placement=CPU)


def rewrite(folder, change):
    """Apply `change` to both shards and to the index."""
    for shard in folder.glob("pytorch_model-*.bin"):
        held = torch.load(shard, weights_only=True)
        change(held)
        torch.save(held, shard)


def test_sizes_of_the_published_model(published):
    assert read_sizes(published["llm"], published["vision"]) == PromptSizes(4096, 2, 224)


@torch.inference_mode()
def test_context_depends_on_the_question_and_content_does_not(model):
    shown, other = torch.tensor([2, 9, 20, 3]), torch.tensor([2, 9, 21, 3])
    first, again, second = (model.encode(frames(3), ids) for ids in (shown, shown, other))
    assert first.shape == (6, 32)
    assert torch.equal(first, again)
    context, content = (first - second).view(3, 2, 32).unbind(dim=1)
    assert context.abs().amax(dim=1).min() > 1e-3
    assert not content.any()


@torch.inference_mode()
def test_frames_stay_apart(model):
    question = torch.tensor([2, 9, 20, 3])
    together = model.encode(frames(3), question).view(3, 2, 32)
    for number, frame in enumerate(frames(3)):
        alone = model.encode(frame[None], question)
        torch.testing.assert_close(together[number], alone, rtol=1e-4, atol=1e-5)


def test_half_precision_is_loaded_as_such(published):
    model = LlamaVid.load(**published, placement=Placement(CPU.device, torch.float16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    with torch.inference_mode():
        assert model.encode(frames(2), torch.tensor([2, 3])).isfinite().all()


@pytest.mark.parametrize(
    "lost",
    [
        "model.vlm_att_key_projector.bias",
        "model.vlm_att_encoder.bert.encoder.layer.0.crossattention.self.key.bias",
        "model.vlm_att_encoder.bert.encoder.layer.1.intermediate.dense.bias",  # the text's own
        "model.mm_projector.2.weight",
    ],
)
def test_a_lost_tensor_is_named(copied, lost):
    rewrite(copied["llm"], lambda held: held.pop(lost, None))
    with pytest.raises(CheckpointError, match="LlamaVid needs"):
        LlamaVid.load(**copied, placement=CPU)


def test_a_model_without_queries_is_named(copied):
    rewrite(copied["llm"], lambda held: held.pop("model.vlm_att_query", None))
    with pytest.raises(CheckpointError, match="is it a LLaMA-VID"):
        LlamaVid.load(**copied, placement=CPU)


def test_the_copy_of_the_tower_is_not_used(model, copied):
    def blank(held):
        for name in held:
            if "vision_tower" in name:
                held[name] = torch.zeros(3)

    rewrite(copied["llm"], blank)
    tower = LlamaVid.load(**copied, placement=CPU).tower
    assert torch.equal(tower.embeddings.class_embedding, model.tower.embeddings.class_embedding)


def configure(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_was_trained_does_not_matter(copied):
    configure(copied["llm"], bert_type="qformer_pretrain_freeze_all")
    LlamaVid.load(**copied, placement=CPU)


@pytest.mark.parametrize(
    ("name", "value"),
    [("compress_type", "grid:2"), ("bert_type", "raw_bert"), ("mm_projector_type", "linear")],
)
def test_another_variant_is_refused(copied, name, value):
    configure(copied["llm"], **{name: value})
    with pytest.raises(CheckpointError, match=f"{name}='{value}'"):
        LlamaVid.load(**copied, placement=CPU)
