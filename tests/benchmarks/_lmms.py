"""Clips through lmms-eval's own adapter of Video-LLaVA, in an environment of its own.

`tests.benchmarks.peers --lmms-eval PYTHON` runs this file with that interpreter (lmms-eval 0.7.3),
a request in JSON as its input; nothing of ovmer is imported. Two of the adapter's mistakes are
corrected in the process, as it would answer no clip otherwise: it passes the number of frames to
`read_video` by position, which takes it by name; and where that returns nine frames, it asks for -1
frames of padding.
"""

import functools
import json
import sys
import time
from types import SimpleNamespace
from typing import Any


def main() -> None:
    given = json.load(sys.stdin)
    import torch

    torch.set_num_threads(given["threads"])
    from lmms_eval.models.simple import video_llava

    video_llava.read_video = functools.partial(eight_frames, video_llava.read_video)
    adapter = video_llava.VideoLLaVA(given["checkpoint"], device="cpu", device_map="auto")
    clips = given["clips"]
    adapter.task_dict = {"task": {"split": [each["video"] for each in clips]}}
    requests = [request(index, each) for index, each in enumerate(clips)]
    answers, started, used = [], time.perf_counter(), time.process_time()
    for each, clip in zip(requests, clips, strict=True):
        adapter.model.generation_config.min_new_tokens = clip["tokens"]
        answers += adapter.generate_until([each])
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"answers": answers, "seconds": seconds, "processor": used}))


def eight_frames(read: Any, path: str, count: int) -> Any:
    return read(path, num_frm=count)[:count]


def request(index: int, clip: dict[str, Any]) -> SimpleNamespace:
    """What lmms-eval gives its adapters of a clip."""
    limits = {"max_new_tokens": clip["tokens"]}
    return SimpleNamespace(
        args=(clip["question"], limits, lambda doc: [doc], index, "task", "split")
    )


def add_processor(checkpoint: str) -> None:
    """Write the files of transformers' processor, which the published checkpoint has.

    In our environment: transformers needs sentencepiece for it.
    """
    from transformers import (
        AutoConfig,
        LlamaTokenizer,
        VideoLlavaImageProcessor,
        VideoLlavaProcessor,
        VideoLlavaVideoProcessor,
    )

    config = AutoConfig.from_pretrained(checkpoint)
    vision = config.vision_config
    size = {
        "size": {"shortest_edge": vision.image_size},
        "crop_size": {"height": vision.image_size, "width": vision.image_size},
    }
    tokenizer = LlamaTokenizer.from_pretrained(checkpoint)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
    assert tokenizer.convert_tokens_to_ids("<video>") == config.video_token_index
    VideoLlavaProcessor(
        image_processor=VideoLlavaImageProcessor(**size),
        video_processor=VideoLlavaVideoProcessor(**size),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(checkpoint)


if __name__ == "__main__":
    main()
