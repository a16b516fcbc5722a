"""From files to what models take: frames as uint8 RGB, sound as float32 samples.

Files are not trusted. Whatever is broken, empty or not what its name says raises Unreadable, a
picture or a sound track that is simply absent raises MissingModality, each with one sentence that
names the file and the reason; nothing else is raised for a file's sake, and no handle stays open.
decord, PyAV, soundfile and librosa are imported by the first call that needs them.
"""

from ovmer.adapters.media import sampling
from ovmer.adapters.media.frames import Frames, read_frames
from ovmer.adapters.media.sound import Channels, Resampling, Samples, read_sound, read_windows

__all__ = [
    "Channels",
    "Frames",
    "Resampling",
    "Samples",
    "read_frames",
    "read_sound",
    "read_windows",
    "sampling",
]
