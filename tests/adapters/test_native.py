"""Chat MLLMs by configuration: every shipped yaml on a miniature of its real architecture."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ovmer.adapters.base import AUDIO, VIDEO, Answer, Machine
from ovmer.adapters.native import Native
from ovmer.adapters.thinking import CUT_WHILE_THINKING, split_thinking
from ovmer.baselines.decoding.answers import MediaPrompt
from ovmer.baselines.errors import (
    CheckpointError,
    ClipError,
    MissingModality,
    PrerequisiteError,
    Unreadable,
)
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests import SAMPLE
from tests.adapters.chat_models import CLIPS, MACHINE, NAMES, SUBTITLES, configured, prepared
from tests.adapters.media_files import tone, write_wav


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_each_clip_what_it_gets_alone(small, name):
    adapter = small(name)
    items = [prepared(adapter, *each) for each in zip(CLIPS, SUBTITLES, strict=True)]
    together = adapter.generate(items)
    alone = [adapter.generate([item])[0] for item in items]
    assert together == alone
    assert all(isinstance(each, Answer) and each.new_tokens > 0 for each in alone)
    first, other = (first_logits(adapter, item.inputs.prompt) for item in items[:2])
    assert (first - other).abs().max() > 1e-3
    assert any(each.thinking for each in alone) == (adapter.thinking != "auto")


@pytest.mark.parametrize("name", NAMES)
def test_both_media_reach_a_model_that_takes_both(small, name):
    adapter = small(name)
    if not adapter.modalities >= {VIDEO, AUDIO}:
        pytest.skip("takes one of them")
    whole = prepared(adapter, CLIPS[0])
    video = SAMPLE / "video" / f"{CLIPS[0]}.mp4"
    seen, heard = adapter.prepare(video, None, None), adapter.prepare(None, video, None)
    assert len(whole.inputs.prompt) > max(len(each.inputs.prompt) for each in (seen, heard))
    assert set(whole.inputs.prompt.features) >= set(seen.inputs.prompt.features)
    assert set(whole.inputs.prompt.features) >= set(heard.inputs.prompt.features)
    assert "from its picture alone" in seen.notes[0]


@pytest.mark.parametrize("name", [name for name in NAMES if AUDIO in configured(name).modalities])
def test_ten_milliseconds_are_heard_and_samples_beyond_measure_are_unreadable(
    small, name, tmp_path
):
    adapter = small(name)
    tiny = write_wav(tmp_path / "tiny.wav", tone(0.01, 16_000), 16_000)
    (answer,) = adapter.generate([adapter.prepare(None, tiny, None)])
    assert isinstance(answer, Answer)
    loud = write_wav(tmp_path / "loud.wav", tone(0.1, 16_000) * 3e38, 16_000)
    with pytest.raises(Unreadable, match="where full scale is 1"):
        adapter.prepare(None, loud, None)


def first_logits(adapter: Native, prompt: MediaPrompt) -> torch.Tensor:
    """Of the first new token; all that the head of the language model was asked for by then."""
    kept: list[torch.Tensor] = []
    head = adapter.modules.llm.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, given, found: kept.append(found.clone()))
    try:
        adapter.engine.generate([prompt], [0])
    finally:
        hook.remove()
    return kept[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_changes_the_logits_of_the_last_position_the_only_ones(small, name):
    adapter = small(name)
    prompt = prepared(adapter, CLIPS[0]).inputs.prompt
    logits = first_logits(adapter, prompt)
    assert logits.shape[:2] == (1, 1), "of a long prompt all positions would take gigabytes"
    features = {name: each for name, each in prompt.features.items() if is_medium(name, each)}
    assert len(features) >= len(adapter.modalities & {VIDEO, AUDIO})
    for name, feature in features.items():
        noise = torch.randn(feature.shape, generator=torch.Generator().manual_seed(0))
        changed = replace(prompt, features={**prompt.features, name: noise})
        moved = (first_logits(adapter, changed) - logits).abs().max()
        assert moved > 1e-3, f"{name} does not reach the language model"


@pytest.mark.parametrize(
    ("given", "name"),
    [((VIDEO, AUDIO), "vision-lora"), ((VIDEO,), "vision-lora"), ((AUDIO,), "speech-lora")],
)
def test_a_clips_media_choose_the_low_rank_adapter(small, tmp_path, given, name):
    """By its authors' code: vision's wherever there is a picture. Tolerance: float32's rounding."""
    adapter = small("phi4_multimodal")
    video = SAMPLE / "video" / "good_news.mp4"
    prompt = adapter.prepare(*(video if each in given else None for each in (VIDEO, AUDIO)), None)
    logits = first_logits(adapter, prompt.inputs.prompt)

    folder = tmp_path / "merged"
    shutil.copytree(adapter.parts["model"], folder)
    weights = load_file(folder / "model.safetensors")
    added = load_file(folder / name / "adapter_model.safetensors")
    for key in [each for each in added if each.endswith("lora_A.weight")]:
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        change = added[key.replace("lora_A", "lora_B")].float() @ added[key].float()
        weights[f"{module}.weight"] = weights[f"{module}.weight"].float() + 4 / 2 * change
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    part = replace(adapter.checkpoint["model"], path=str(folder))
    whole = replace(adapter, checkpoint={"model": part}, lora={})
    whole.load(MACHINE)
    assert torch.allclose(first_logits(whole, prompt.inputs.prompt), logits, atol=1e-5)
    other = replace(adapter, lora={})
    other.load(MACHINE)
    assert (first_logits(other, prompt.inputs.prompt) - logits).abs().max() > 1e-3


def test_a_low_rank_adapter_that_is_not_whole_is_refused(small, tmp_path):
    adapter = small("phi4_multimodal")
    shutil.copytree(adapter.parts["model"], tmp_path, dirs_exist_ok=True)
    part = replace(adapter.checkpoint["model"], path=str(tmp_path))
    file = tmp_path / "speech-lora" / "adapter_model.safetensors"
    whole = load_file(file)
    first = min(whole)
    save_file({key: each for key, each in whole.items() if key != first}, file)
    with pytest.raises(CheckpointError, match=r"speech-lora.*lacks .*lora_A.*the right file\?"):
        replace(adapter, checkpoint={"model": part}).load(MACHINE)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"speech-lora holds no low-rank adapter"):
        replace(adapter, checkpoint={"model": part}).load(MACHINE)
    engine = {"name": "vllm"}
    with pytest.raises(PrerequisiteError, match=r"baseline\.lora.*engine=transformers"):
        adapter.load(Machine(device="cpu", dtype="float32", engine=engine))


def test_markers_around_what_gemma_thinks_stay_in_its_answers(small):
    """They are control tokens, and other control tokens are left out."""
    processor = small("gemma4").tokenizer
    opening, closing = processor.id_of("<|channel>"), processor.id_of("<channel|>")
    thought, answer = (processor.encode(each) for each in ("thought\nShe frowns.", "Angry."))
    text = processor.decode([opening, *thought, closing, *answer, processor.eos_id])
    assert split_thinking(text) == ("She frowns.", "Angry.")


def is_medium(name: str, feature: torch.Tensor) -> bool:
    """Pixels or a spectrogram, no mask and no times."""
    return feature.is_floating_point() and feature.dim() > 1 and "mask" not in name


def test_what_is_thought_is_parted_from_what_is_answered(small):
    adapter = small("qwen3_omni_thinking")
    generation = replace(adapter.generation, max_new_tokens=32)
    longer = replace(adapter, generation=generation)
    longer.load(MACHINE)
    answers = longer.generate([prepared(longer, name) for name in CLIPS])
    assert all(each.thinking and "think>" not in each.text for each in answers)
    whole = [each for each in answers if each.text]
    cut = [each for each in answers if not each.text]
    assert whole
    assert not any(each.notes for each in whole)
    assert all(each.notes == (CUT_WHILE_THINKING,) and each.new_tokens == 32 for each in cut)


def test_inputs_that_the_model_lacks_are_named_before_the_first_clip(small):
    deaf, blind = small("qwen2_5_vl"), small("qwen2_audio")
    with pytest.raises(PrerequisiteError, match=r"hears nothing .* baseline\.modalities=video"):
        replace(deaf, modalities="both").load(MACHINE)
    with pytest.raises(PrerequisiteError, match=r"sees nothing .* baseline\.modalities=audio"):
        replace(blind, modalities="video").load(MACHINE)
    with pytest.raises(MissingModality, match="no video"):
        deaf.prepare(None, None, "hello")


def test_a_missing_package_is_named_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr("ovmer.adapters.native.find_spec", lambda name: None)
    adapter = configured("gemma3n")
    for use in (lambda: adapter.miniature(tmp_path), lambda: adapter.load(MACHINE)):
        with pytest.raises(PrerequisiteError, match=r"the package timm.*'ovmer\[gemma3n\]'"):
            use()


def test_more_than_the_context_holds(small):
    adapter = small("qwen2_5_vl")
    wordy = adapter.prepare(SAMPLE / "video" / "good_news.mp4", None, "happy " * 60_000)
    assert len(wordy.inputs.prompt) <= 32768 - 12
    assert "the subtitle was cut by" in wordy.notes[0]
    assert adapter.generate([adapter.prepare(SAMPLE / "video" / "good_news.mp4", None, "x")])
    tight = replace(adapter, generation=replace(adapter.generation, max_new_tokens=32_600))
    with pytest.raises(PrerequisiteError, match=r"with 6 frames a prompt takes .*baseline\.frames"):
        prepared(tight, "good_news", "hello")


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_next_video", "phi4_multimodal"])
def test_far_too_many_frames_are_not_even_read(small, monkeypatch, name):
    adapter = replace(small(name), frames=4000, fps=0.0)
    with monkeypatch.context() as patch:
        patch.delattr("ovmer.adapters.chat_mllm.read_frames")
        with pytest.raises(PrerequisiteError, match=r"with \d+ frames a prompt takes \d+ tokens"):
            prepared(adapter, "good_news")
    if name == "qwen2_5_vl":
        fitting, measured = replace(adapter, frames=100), list[int]()
        length = fitting.tokenizer.length_with

        def counted(message, media):
            measured.append(len(media.video))
            return length(message, media)

        monkeypatch.setattr(fitting.tokenizer, "length_with", counted)
        assert len(prepared(fitting, "good_news").inputs.prompt) > 64 // 2 * 144
        assert measured == [64, 100]
        prepared(fitting, "good_news")
        assert measured == [64, 100], "clips of one size are measured once"


def test_control_tokens_in_a_subtitle_stay_words(small):
    adapter = small("qwen2_5_vl")
    plain = prepared(adapter, "good_news", "x")
    spelled = prepared(adapter, "good_news", "<|im_end|><|video_pad|>")
    eos, video = adapter.tokenizer.eos_id, adapter.tokenizer.encode("x")
    assert spelled.inputs.prompt.ids.count(eos) == plain.inputs.prompt.ids.count(eos)
    assert video
    kinds = [each.inputs.prompt.per_token["mm_token_type_ids"].sum() for each in (plain, spelled)]
    assert kinds[0] == kinds[1]


def test_processors_of_another_kind(small, tmp_path):
    adapter = small("qwen2_audio")
    folder = tmp_path / "no-template"
    shutil.copytree(adapter.parts["model"], folder)
    (folder / "chat_template.jinja").unlink()
    part = replace(adapter.checkpoint["model"], path=str(folder))
    config = folder / "processor_config.json"
    config.write_text(config.read_text().replace("Qwen2AudioProcessor", "WhisperProcessor"))
    with pytest.raises(CheckpointError, match="has no chat template"):
        replace(adapter, checkpoint={"model": part}).load(MACHINE)
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"holds"):
        replace(adapter, checkpoint={"model": part}).load(MACHINE)


def test_a_part_that_was_saved_alone_is_read_as_well(small, tmp_path):
    """Fine-tunes of an omni model hold the part that writes text and no other."""
    whole = small("qwen2_5_omni")
    weights = ("config.json", "model.safetensors")
    shutil.copytree(whole.parts["model"], tmp_path, dirs_exist_ok=True)
    for name in weights:
        (tmp_path / name).unlink()
    whole.modules.llm.save_pretrained(tmp_path)
    part = replace(whole.checkpoint["model"], path=str(tmp_path))
    alone = replace(whole, checkpoint={"model": part})
    alone.load(MACHINE)
    item = prepared(alone, "good_news")
    assert alone.generate([item]) == whole.generate([prepared(whole, "good_news")])


def test_settings_that_cannot_work_are_named(tmp_path):
    with pytest.raises(PrerequisiteError, match=r"baseline\.architecture is missing"):
        Native()
    with pytest.raises(PrerequisiteError, match=r"baseline\.picture is 'film'"):
        Native(architecture="X", picture="film")
    with pytest.raises(PrerequisiteError, match=r"baseline\.frames is 0"):
        Native(architecture="X", frames=0)
    for name, words in (
        ("X", r"'X', which is no generating model"),
        ("Qwen2ForCausalLM", r"has no processor for 'qwen2'"),
        ("InstructBlipVideoForConditionalGeneration", r"miniature .* default qformer_tokenizer"),
    ):
        with pytest.raises(PrerequisiteError, match=words):
            Native(architecture=name).miniature(tmp_path)


def test_frames_by_the_second(small):
    adapter = replace(small("qwen2_5_vl"), fps=2.0, frames=64)
    assert adapter.frame_indices(100, 25.0) == [0, 14, 28, 42, 57, 71, 85, 99]
    assert adapter.frame_indices(3, 25.0) == [0, 1, 1, 2], "never fewer than four"
    assert replace(adapter, frames=2).frame_indices(3, 25.0) == [0, 2]
    assert len(adapter.frame_indices(100_000, 25.0)) == 64


def test_a_clip_that_the_processor_refuses_after_others_is_that_clips_error(small, monkeypatch):
    adapter = small("qwen2_5_vl")
    prepared(adapter, CLIPS[0])

    def refuse(media):
        raise ValueError("t:1 must be larger than temporal_factor:2")

    monkeypatch.setattr(adapter.tokenizer, "arguments", refuse)
    with pytest.raises(ClipError, match=r"temporal_factor:2\), though it took others"):
        prepared(adapter, CLIPS[1])


def test_a_sweep_goes_from_files_to_records(tmp_path):
    """Through the runner's own pipeline, its encoder stage included."""
    adapter = configured("qwen2_audio").miniature(tmp_path)
    adapter.load(MACHINE)
    sound = {"video": None, "audio": SAMPLE / "audio" / "good_news.wav", "subtitle": "Yes."}
    requests = [ClipRequest(name=str(n), truth=(), fingerprint={}, **sound) for n in range(3)]
    found = list(Pipeline(adapter, seed=0, batch_size=2, workers=2).describe(requests))
    assert [each.status for each in found] == ["ok"] * 3
    assert len({each.description for each in found}) == 1
