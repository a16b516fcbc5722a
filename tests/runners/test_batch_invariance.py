"""`batch_size=1` keeps the words of half precision independent of what else is asked."""

from pathlib import Path

from ovmer.adapters.base import Machine
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests import SAMPLE
from tests.adapters.small_mllms import configured

CLIPS = sorted((SAMPLE / "audio").glob("*.wav"))[:5]


def test_in_bfloat16_single_clips_say_the_same_in_any_order(tmp_path: Path) -> None:
    adapter = configured("qwen_audio", "paper").miniature(tmp_path)
    adapter.generation.max_new_tokens = 12
    adapter.load(Machine(device="cpu", dtype="bfloat16"))
    asked = [ClipRequest(clip.stem, None, clip, "Oh, really?", (), {}) for clip in CLIPS]

    def words(requests: list[ClipRequest]) -> dict[str, str]:
        pipeline = Pipeline(adapter, seed=0, batch_size=1, workers=2)
        return {each.name: each.description for each in pipeline.describe(requests)}

    found = words(asked)
    assert len(set(found.values())) > 1
    assert words(asked[::-1]) == found
    assert words(asked[3:]) == {name: found[name] for name in list(found)[3:]}
