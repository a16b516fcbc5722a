"""stub"""
from dataclasses import dataclass
import numpy as np
from PIL import Image
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import first

@dataclass(frozen=True)
class Template:
    before: str
    after: tuple[str, ...]

_BEFORE = "[INST] <video>"
_VECTORS = "</video> <feature><FeatureHere></feature>"
DEMO = Template(_BEFORE, (_VECTORS, "[INST] {question} [/INST]"))
DATASET = Template(_BEFORE, (_VECTORS + " {question}  [/INST]",))

def look(path):
    frames = read_frames(path, lambda count, _: first(count, 1))
    picture = Image.fromarray(frames.pixels[0]).resize((448,448), Image.Resampling.BICUBIC)
    return frames, np.array(picture)
