"""Low-rank adapters in peft's layout, for chat models and for ports."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from ovmer.adapters.base import Machine
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.native import Native
from ovmer.baselines.checkpoint import CheckpointPart, Loading
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError, PrerequisiteError
from ovmer.baselines.llm_folder import LlmFolder
from ovmer.baselines.lora import ADAPTER_CONFIG, AdapterConfig
from tests.adapters.chat_models import CLIPS, configured, prepared
from tests.adapters.small_mllms import configured as port
from tests.adapters.small_mllms import faces

CPU = Machine(device="cpu", dtype="float32")
TARGETS = r".*language_model.*\.(q_proj|v_proj|down_proj)"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Native:
    return configured("qwen2_5_vl").miniature(tmp_path_factory.mktemp("chat"))


def trained(base: torch.nn.Module, config: LoraConfig, folder: Path) -> PeftModel:
    """An adapter whose effect is large, as peft saves it."""
    model = get_peft_model(base, config)
    stream = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=stream) * 0.5
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def fine_tuned(chat: Native, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    cls = transformers.Qwen2_5_VLForConditionalGeneration
    base = cls.from_pretrained(chat.parts["model"], dtype=torch.float32)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=TARGETS, use_rslora=True,
        rank_pattern={"layers.0.self_attn.q_proj": 8}, alpha_pattern={"down_proj": 3},
    )  # fmt: skip
    model = trained(base, config, folder).merge_and_unload()
    model.save_pretrained(folder / "merged")
    for file in Path(chat.parts["model"]).iterdir():
        if not (folder / "merged" / file.name).exists() and file.suffix != ".safetensors":
            (folder / "merged" / file.name).write_bytes(file.read_bytes())
    return folder


def with_adapter(adapter: Native, folder: Path) -> Native:
    return replace(
        adapter, checkpoint={**adapter.checkpoint, "adapter": CheckpointPart(path=str(folder))}
    )


def test_a_chat_model_answers_as_the_one_that_peft_merged(chat, fine_tuned) -> None:
    merged = replace(chat, checkpoint={"model": CheckpointPart(path=str(fine_tuned / "merged"))})
    adapted = with_adapter(chat, fine_tuned)
    logits = []
    for each in (chat, merged, adapted):
        each.load(CPU)
        prompt = prepared(each, CLIPS[0]).inputs.prompt
        with torch.inference_mode():
            features = dict(prompt.features)
            tokens = {name: value[None] for name, value in prompt.per_token.items()}
            ids = torch.tensor([prompt.ids])
            logits.append(each.modules.llm(input_ids=ids, **features, **tokens).logits)
    plain, golden, ours = logits
    scale = float(golden.abs().max())
    assert (ours - golden).abs().max() < 1e-5 * scale  # float32, sums in another order
    assert (plain - golden).abs().max() > 1e-2 * scale
    names = {type(module).__name__ for module in adapted.modules.llm.modules()}
    assert not any("Lora" in name for name in names)


@pytest.mark.by_hand
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.filterwarnings("ignore")  # of vLLM, in our process
def test_vllm_applies_it_too(chat, fine_tuned) -> None:
    adapted = with_adapter(chat, fine_tuned)
    adapted.load(CPU)
    items = [prepared(adapted, clip) for clip in CLIPS]
    expected = adapted.generate(items)
    adapted.close()
    options = {"kv_cache_memory_bytes": 2**28, "max_model_len": 4096, "skip_mm_profiling": True}
    adapted.load(replace(CPU, engine={"name": "vllm", "options": options}))
    found = dict(adapted.stream([prepared(adapted, clip) for clip in CLIPS]))
    adapted.close()
    assert [found[index] for index in range(len(CLIPS))] == expected


def test_a_chat_model_in_vllm_is_given_it_and_notes_it(chat, fine_tuned, monkeypatch) -> None:
    given = []
    monkeypatch.setattr(
        "ovmer.baselines.native.vllm.start_chat_vllm", lambda *options: given.append(options)
    )
    adapted = with_adapter(chat, fine_tuned)
    adapted.load(replace(CPU, engine={"name": "vllm"}))
    assert given[0][-1] == fine_tuned
    assert adapted.load_notes == (f"the adapter {fine_tuned.name} is applied",)
    chat.load(replace(CPU, engine={"name": "vllm"}))
    assert given[1][-1] is None
    assert chat.load_notes == ()
    tuned = {"tuned": CheckpointPart(path=str(fine_tuned))}
    replace(chat, checkpoint=chat.checkpoint | tuned).load(replace(CPU, engine={"name": "vllm"}))
    assert given[2][-1] == fine_tuned
    both = replace(adapted, checkpoint=adapted.checkpoint | tuned)
    for machine in (CPU, replace(CPU, engine={"name": "vllm"})):
        with pytest.raises(PrerequisiteError, match="takes one adapter, but several are named"):
            both.load(machine)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, "the adapter lora is applied"),
        ("/models/qwen2.5-vl-7b-instruct", "the adapter lora is applied"),
        ("/cache/models--Qwen--Qwen2.5-VL-7B-Instruct/snapshots/1", "the adapter lora is applied"),
        (
            "Qwen/Qwen2-VL-7B-Instruct",
            "the adapter lora is applied; it names Qwen/Qwen2-VL-7B-Instruct as its base model, "
            "and this one is Qwen2.5-VL-7B-Instruct",
        ),
    ],
)
def test_a_base_model_of_another_name_is_noted(tmp_path, base, expected) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / ADAPTER_CONFIG).write_text(json.dumps({"base_model_name_or_path": base}))
    parts = {
        "model": CheckpointPart("Qwen/Qwen2.5-VL-7B-Instruct"),
        "adapter": CheckpointPart(path=str(folder)),
    }
    loading = Loading(parts, {"adapter": folder})
    loading.note_adapter(folder)
    assert loading.notes == [expected]


def test_an_adapter_of_another_model_is_refused(chat, fine_tuned, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(fine_tuned / "adapter_model.safetensors")
    (other / ADAPTER_CONFIG).write_text((fine_tuned / ADAPTER_CONFIG).read_text())
    wide = {k: torch.ones(v.shape[0], 99) if "lora_A" in k else v for k, v in tensors.items()}
    lacking = dict(list(tensors.items())[:-1])
    more = tensors | {"base_model.model.model.decoder.q_proj.lora_A.weight": torch.ones(4, 8)}
    for changed in (wide, lacking, more):
        save_file(changed, other / "adapter_model.safetensors")
        with pytest.raises(CheckpointError, match=r"does not fit Qwen2_5_VL.*on this model"):
            with_adapter(chat, other).load(CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"bias": "all"},
        {"megatron_config": {"a": 1}},
        {"something_new": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_plain_adapter_is_refused(fine_tuned, tmp_path, change) -> None:
    content = json.loads((fine_tuned / ADAPTER_CONFIG).read_text())
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps(content | change))
    with pytest.raises(CheckpointError, match=f"no plain low-rank.*{next(iter(change))}"):
        AdapterConfig.read(tmp_path)
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    with pytest.raises(CheckpointError, match="lacks r or lora_alpha"):
        AdapterConfig.read(tmp_path)


@pytest.fixture(scope="module")
def merged_port(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mllm]:
    """A folder with a miniature and an adapter, and the port as peft merged that."""
    folder = tmp_path_factory.mktemp("port")
    plain = port("video_llava").miniature(folder)
    plain.load(CPU)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], use_rslora=True)
    plain.modules.llm = trained(plain.modules.llm, config, folder / "adapter").merge_and_unload()
    return folder, plain


def adapted_port(folder: Path) -> Mllm:
    small = port("video_llava").miniature(folder)
    small.checkpoint["adapter"] = CheckpointPart(path=str(folder / "adapter"))
    return small


def test_a_port_takes_one_for_its_language_model(merged_port) -> None:
    folder, golden = merged_port
    small = adapted_port(folder)
    small.load(CPU)
    for name, value in golden.modules.llm.state_dict().items():
        assert torch.allclose(small.modules.llm.get_parameter(name), value, atol=1e-6), name
    assert "the adapter adapter is applied" in small.load_notes
    theirs, ours = (a.generate([a.prepare(faces(folder, 9), None, "No!")]) for a in (golden, small))
    assert ours == theirs


def test_vllm_and_quantisation_read_a_folder_with_the_adapter_merged_in(merged_port) -> None:
    folder, golden = merged_port
    small = adapted_port(folder)
    kept = LlmFolder(folder / "llm", "video_llava")
    loading = Loading(small.checkpoint, small.parts)
    small.build(Placement(torch.device("cpu"), torch.float32, kept, loading))
    weights = golden.modules.llm.state_dict()
    found = {k: v for file in kept.path.glob("*.safetensors") for k, v in load_file(file).items()}
    assert found.keys() == weights.keys()
    for name, value in found.items():
        assert torch.allclose(value, weights[name], atol=1e-6), name


def test_a_port_refuses_what_is_of_another_model(tmp_path) -> None:
    small = port("video_llava").miniature(tmp_path)
    small.load(CPU)
    config = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj"])
    trained(small.modules.llm, config, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file({name.replace("q_proj", "qkv"): tensors[name]}, file)
    again = port("video_llava").miniature(tmp_path)
    again.checkpoint["adapter"] = CheckpointPart(path=str(tmp_path / "adapter"))
    with pytest.raises(CheckpointError, match=r"trained for another model.*no llm\..*qkv to adapt"):
        again.load(CPU)
