"""Chat models give the very tokens that transformers' documentation and the model cards lead to."""

from dataclasses import replace

import pytest
import torch
import transformers

from ovmer.adapters.base import AUDIO, VIDEO, Machine
from ovmer.adapters.media import read_frames, read_sound
from ovmer.adapters.media.sampling import linspace
from ovmer.adapters.native import Native
from ovmer.baselines.errors import (
    PrerequisiteError,
)
from ovmer.baselines.native.model import read_processor
from ovmer.baselines.native.processor import Message
from tests import SAMPLE
from tests.adapters.chat_models import configured, prepared


def media(name: str, frames: int, rate: int):
    """Frames and sound of a sample clip, read as the adapter reads them."""
    video, audio = SAMPLE / "video" / f"{name}.mp4", SAMPLE / "audio" / f"{name}.wav"
    seen = read_frames(video, lambda count, _: linspace(count, frames, rounded=True))
    return seen, read_sound(audio, rate)


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
    woven: dict[str, object] = {"use_audio_in_video": True}
    if hasattr(processor, "load_audio_from_video"):  # since transformers 5.23
        woven = {"load_audio_from_video": True, "audio_from_video_indices": [0]}
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
