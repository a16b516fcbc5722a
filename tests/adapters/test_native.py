"""Chat MLLMs by configuration: every shipped yaml on a miniature of its real architecture."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, VIDEO, Answer, Machine, Prepared
from ovmer.adapters.media import read_frames, read_sound
from ovmer.adapters.media.sampling import linspace
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
from ovmer.baselines.native.model import read_processor
from ovmer.baselines.native.processor import Message
from ovmer.runners.config import shipped_baselines
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.job import NOT_FIELDS
from tests.adapters.media_files import tone, write_wav

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "runners" / "data" / "sample"
MACHINE = Machine(device="cpu", dtype="float32")
CONF = ROOT / "conf" / "baseline"


def content_of(name: str) -> DictConfig:
    """A yaml file over the one that it varies."""
    own = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    parents = [each for each in own.pop("defaults", []) if each != "_self_"]
    merged = OmegaConf.merge(*(content_of(each) for each in parents), own)
    assert isinstance(merged, DictConfig)
    return merged


def kind(name: str) -> str:
    """What a miniature depends on: a checkpoint of the same class has the same."""
    keys = ("architecture", "modalities", "picture", "sound_in_video", "thinking", "shrink")
    return str([content_of(name).get(key) for key in keys])


NATIVE = [name for name, each in shipped_baselines().items() if each.get("adapter") == "native"]
NAMES = list({kind(name): name for name in reversed(NATIVE)}.values())[::-1]
"""One of each kind, the first by name."""
CLIPS = ("good_news", "farewell", "sour_milk")
SUBTITLES = ("No!", None, "a much longer subtitle, so that lengths differ " * 3)


def configured(name: str) -> Native:
    """The adapter as its yaml file has it."""
    content = content_of(name)
    fields = {key: value for key, value in content.items() if key not in NOT_FIELDS}
    cls = registry.get(content["adapter"])
    fields["generation"] = content["generation"]["greedy"]
    adapter = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), fields))
    assert isinstance(adapter, Native)
    # Fewer frames than shipped: prompts of thousands of tokens would take minutes in all.
    frames = min(adapter.frames, 8)
    return replace(
        adapter, frames=frames, generation=replace(adapter.generation, max_new_tokens=12)
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A loaded miniature by the name of its yaml; each is made once."""
    made: dict[str, Native] = {}

    def get(name: str) -> Native:
        if name not in made:
            made[name] = configured(name).miniature(tmp_path_factory.mktemp(name))
            made[name].load(MACHINE)
        return made[name]

    return get


def prepared(adapter: Native, name: str, subtitle: str | None = None) -> Prepared:
    """One clip of the sample, of which the adapter gets what it uses."""
    video = SAMPLE / "video" / f"{name}.mp4" if VIDEO in adapter.modalities else None
    audio = SAMPLE / "audio" / f"{name}.wav" if AUDIO in adapter.modalities else None
    return adapter.prepare(video, audio, subtitle)


def media(name: str, frames: int, rate: int):
    """Frames and sound of a sample clip, read as the adapter reads them."""
    video, audio = SAMPLE / "video" / f"{name}.mp4", SAMPLE / "audio" / f"{name}.wav"
    seen = read_frames(video, lambda count, _: linspace(count, frames, rounded=True))
    return seen, read_sound(audio, rate)


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


def documented(adapter: Native, content: list, **options) -> list[int]:
    """The new tokens, as the documentation of transformers has its users ask."""
    folder = adapter.parts["model"]
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = getattr(transformers, adapter.architecture).from_pretrained(folder, dtype=torch.float32)
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=options,
    )
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return output[0, inputs["input_ids"].shape[1] :].tolist()


def told(adapter: Native, name: str) -> list[int]:
    """The new tokens that the adapter's engine gives for a clip, with the one that ended it."""
    (answer,) = adapter.engine.generate([prepared(adapter, name).inputs.prompt], [0])
    return list(answer.ids)


@pytest.mark.parametrize("name", ["minicpm_v4_6", "qwen2_5_vl", "qwen3_5", "smolvlm2"])
def test_video_as_documented(small, name):
    adapter = small(name)
    frames = read_frames(SAMPLE / "video" / "good_news.mp4", adapter.frame_indices)
    question = adapter.prompts[VIDEO].without_subtitle
    when = {
        "fps": frames.fps,
        "total_num_frames": frames.count,
        "frames_indices": list(frames.indices),
    }
    tokens = documented(
        adapter,
        [{"type": "video", "video": frames.pixels}, {"type": "text", "text": question}],
        video_metadata=[when],
        do_sample_frames=False,
        **{key: value for key, value in adapter.processor.items() if key != "videos_kwargs"},
        **adapter.processor.get("videos_kwargs", {}),
    )
    assert told(adapter, "good_news") == [
        each for each in tokens if each != adapter.tokenizer.eos_id
    ]


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


def test_sound_as_documented(small):
    adapter = small("qwen2_audio")
    _, sound = media("good_news", 1, adapter.tokenizer.rate)
    question = adapter.prompts[AUDIO].without_subtitle
    tokens = documented(
        adapter, [{"type": "audio", "audio": sound}, {"type": "text", "text": question}]
    )
    assert told(adapter, "good_news") == [
        each for each in tokens if each != adapter.tokenizer.eos_id
    ]


def test_sound_as_documented_where_messages_alone_make_a_prompt(small):
    adapter = small("voxtral")
    processor = transformers.AutoProcessor.from_pretrained(adapter.parts["model"])
    question = adapter.prompts[AUDIO].about("[INST] is spelled, not said")
    content = [
        {"type": "audio", "path": str(SAMPLE / "audio" / "good_news.wav")},
        {"type": "text", "text": question},
    ]
    inputs = processor.apply_chat_template([{"role": "user", "content": content}])
    prompt = prepared(adapter, "good_news", "[INST] is spelled, not said").inputs.prompt
    assert prompt.ids == inputs["input_ids"][0].tolist()
    assert prompt.features["input_features"].equal(inputs["input_features"])

    with pytest.raises(PrerequisiteError, match="no prompt that vLLM could be given; say engine"):
        adapter.load(Machine(device="cpu", dtype="float32", engine={"name": "vllm"}))
    with pytest.raises(PrerequisiteError, match=r"system messages .* not allowed"):
        prepared(replace(adapter, system="Be brief."), "good_news")


def test_both_as_documented(small):
    """The model card's way: the sound is handed beside a message that holds the video alone."""
    adapter = small("qwen2_5_omni")
    frames = read_frames(SAMPLE / "video" / "good_news.mp4", adapter.frame_indices)
    sound = read_sound(SAMPLE / "audio" / "good_news.wav", 16000)
    folder = adapter.parts["model"]
    processor = transformers.AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [
                    {"type": "video"},
                    {"type": "text", "text": adapter.prompts["both"].without_subtitle},
                ],
            }
        ],
        add_generation_prompt=True,
        tokenize=False,
    )
    # Since transformers 5.23 the processor pairs them itself, under another name.
    is_newer = hasattr(processor, "load_audio_from_video")
    woven = {"load_audio_from_video" if is_newer else "use_audio_in_video": True}
    inputs = processor(
        text=text,
        audio=[sound],
        videos=[frames.pixels],
        return_tensors="pt",
        padding=True,
        **woven,
        do_sample_frames=False,
        cap_pixels_per_frame=True,
        fps=len(frames.indices) / frames.count * frames.fps,
    )
    model = getattr(transformers, adapter.architecture).from_pretrained(folder, dtype=torch.float32)
    output = model.generate(**inputs, use_audio_in_video=True, max_new_tokens=12, do_sample=False)
    tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
    assert told(adapter, "good_news") == [
        each for each in tokens if each != adapter.tokenizer.eos_id
    ]


def test_arguments_of_the_chat_template_reach_it(small):
    folder = small("qwen3_5").parts["model"]
    words = (
        "{{ messages[-1].content[0].text }}{% if enable_thinking is false %} Be brief.{% endif %}"
    )
    message = Message([], "How does she feel?")
    for given, end in (({}, "?"), ({"enable_thinking": False}, "? Be brief.")):
        rendered = read_processor(folder, {}, {"chat_template": words, **given}).render(message)
        assert rendered == f"How does she feel{end}"


def test_times_are_not_rounded_to_half_precision(tmp_path, monkeypatch):
    """In bfloat16 the seconds a grid would move the positions of half of all clip lengths."""
    adapter = configured("qwen2_5_omni").miniature(tmp_path)
    adapter.load(Machine(device="cpu", dtype="bfloat16"))
    cls, given = transformers.Qwen2_5OmniThinkerForConditionalGeneration, {}
    generate = cls.generate

    def seen(self, *arguments, **more):
        given.update(more)
        return generate(self, *arguments, **more)

    monkeypatch.setattr(cls, "generate", seen)
    adapter.generate([prepared(adapter, "farewell")])
    assert given["video_second_per_grid"].dtype == torch.float32
    assert given["pixel_values_videos"].dtype == torch.bfloat16


def test_inputs_that_the_model_lacks_are_named_before_the_first_clip(small):
    deaf, blind = small("qwen2_5_vl"), small("qwen2_audio")
    with pytest.raises(PrerequisiteError, match=r"hears nothing .* baseline\.modalities=video"):
        replace(deaf, modalities="both").load(MACHINE)
    with pytest.raises(PrerequisiteError, match=r"sees nothing .* baseline\.modalities=audio"):
        replace(blind, modalities="video").load(MACHINE)
    with pytest.raises(MissingModality, match="no video"):
        deaf.prepare(None, None, "hello")


def test_a_missing_package_is_named_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr("ovmer.adapters.native_checks.find_spec", lambda name: None)
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
