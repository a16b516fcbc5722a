"""One model on several GPUs. Where none are, devices are the CPU by several names."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2_5_VLForConditionalGeneration

from ovmer.adapters.base import Machine
from ovmer.baselines import device_map
from ovmer.baselines.device import WORKING, Placement, resolve
from ovmer.baselines.device_map import check_each, connect, device_of, spread
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.weights import weightless
from tests.adapters.chat_models import configured as chat
from tests.adapters.small_mllms import configured, faces

CPU, HALF = torch.device("cpu"), torch.float16
CARDS = [torch.device("cuda", index) for index in range(4)]
VICUNA = LlamaConfig(max_position_embeddings=2048)  # the defaults are LLaMA 7B


def bytes_of(model: torch.nn.Module, where: device_map.Spread) -> list[int]:
    shares = dict.fromkeys(CARDS, 0)
    for name, value in model.named_parameters():
        shares[device_of(name, where)] += value.numel() * HALF.itemsize
    return [share for share in shares.values() if share]


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    with weightless():
        return LlamaForCausalLM(VICUNA)


def test_each_gpu_holds_about_as_much_and_layers_stay_whole(llama) -> None:
    for count in (2, 3, 4):
        where = spread(llama, CARDS[:count], HALF)
        shares = bytes_of(llama, where)
        layer = 2 * sum(each.numel() for each in llama.model.layers[0].parameters())
        assert len(shares) == count
        assert max(shares) - min(shares) < 2 * layer
        for index in range(32):
            assert f"model.layers.{index}" in where
        order = [device_of(f"model.layers.{index}", where).index for index in range(32)]
        assert order == sorted(order)
    assert spread(llama, CARDS[:1], HALF) == {"": CARDS[0]}


def test_encoders_on_the_first_gpu_leave_it_fewer_layers(llama) -> None:
    beside = 4 * 10**9
    first, second = bytes_of(llama, spread(llama, CARDS[:2], HALF, beside))
    assert abs(first + beside - second) < 10**9


def test_a_tied_head_lies_with_the_embeddings() -> None:
    with weightless():
        tied = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, num_hidden_layers=4))
    where = spread(tied, CARDS[:2], HALF)
    assert where["lm_head"] == where["model.embed_tokens"] == CARDS[0]
    assert where["model.layers.3"] == CARDS[1]


def test_of_a_chat_model_the_towers_come_first() -> None:
    with weightless():
        model = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLForConditionalGeneration.config_class()
        )
    where = spread(model, CARDS[:2], HALF)
    assert where["model.visual.patch_embed.proj"] == CARDS[0]
    assert where["lm_head"] == CARDS[1]
    first, second = bytes_of(model, where)
    assert abs(first - second) / (first + second) < 0.05


def test_the_gpu_without_room_is_named_before_a_weight_is_read(llama, monkeypatch) -> None:
    where = spread(llama, CARDS[:2], HALF)
    free = dict(zip(CARDS, bytes_of(llama, where), strict=False))
    free[CARDS[0]] += WORKING
    monkeypatch.setattr("ovmer.baselines.device.free_memory", free.get)
    placement = resolve("cpu", "float16", at="extractor.engine")
    with pytest.raises(
        PrerequisiteError, match=r"GiB of cuda:1 are free.*extractor\.engine\.gpus=2"
    ):
        check_each(llama, where, placement)
    free[CARDS[1]] += WORKING
    check_each(llama, where, placement)
    with pytest.raises(PrerequisiteError, match="GiB of cuda:0 are free"):
        check_each(llama, where, placement, beside=1)


def test_more_gpus_than_there_are(monkeypatch) -> None:
    with pytest.raises(PrerequisiteError, match=r"engine\.gpus=2 was asked for but torch sees 0"):
        resolve("cpu", "float32", 2)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("ovmer.baselines.device._prepare_cuda", lambda: None)
    assert resolve("cuda:2", "float16", 2).others == (CARDS[3],)
    with pytest.raises(PrerequisiteError, match=r"torch sees 2 GPUs from cuda:2 on"):
        resolve("cuda:2", "float16", 3)


def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 99}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=4, num_attention_heads=2)).eval()


def test_a_spread_model_writes_what_it_wrote_in_one_piece() -> None:
    ids = torch.arange(7)[None]
    options = {"max_new_tokens": 6, "do_sample": False}
    plain = small().generate(ids, **options)
    model = small()
    connect(model, spread(model, (CPU, CPU), torch.float32))
    hooked = [name for name, module in model.named_modules() if hasattr(module, "_hf_hook")]
    assert "model.layers.3" in hooked
    assert torch.equal(model.generate(ids, **options), plain)


@pytest.mark.parametrize("name", ["video_llava", "qwen2_5_vl"])
def test_an_adapter_on_two_devices_says_what_it_says_on_one(name, tmp_path, monkeypatch) -> None:
    """A port and a chat model, by engine.gpus=2; both devices are the CPU."""
    adapter = (chat if name == "qwen2_5_vl" else configured)(name).miniature(tmp_path)
    clip = faces(tmp_path, 9)

    def said(engine: dict[str, object]) -> list[object]:
        adapter.load(Machine(device="cpu", dtype="float32", engine=engine))
        return list(adapter.generate([adapter.prepare(clip, None, words) for words in ("No!", "")]))

    plain = said({"name": "transformers"})
    assert hooks(adapter.modules.llm) == set()
    two = Placement(CPU, torch.float32, others=(CPU,))
    asked = []
    for module in ("chat", "device"):
        monkeypatch.setattr(
            f"ovmer.baselines.{module}.resolve",
            lambda device, dtype, gpus, at="": asked.append(gpus) or two,
        )
    assert said({"name": "transformers", "gpus": 2}) == plain
    assert asked == [2]
    if name == "video_llava":  # of one device, transformers makes no hooks
        assert hooks(adapter.modules.llm)
        assert "spread over 2 GPUs, in padded batches" in adapter.load_notes


def hooks(model: torch.nn.Module) -> set[str]:
    """The modules to which accelerate's hooks bring inputs."""
    return {name for name, module in model.named_modules() if hasattr(module, "_hf_hook")}
