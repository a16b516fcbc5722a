"""Media files -> inputs of models: frames as uint8 RGB, sound as float32 samples.

Files are not trusted. Whatever is broken, empty or not what its name says raises Unreadable, a
picture or a sound track that is simply absent raises MissingModality, each with one sentence that
names the file and the reason; Unavailable and Timeout are passing. Nothing else is raised for a
file's sake, and no handle stays open. Files are read in child processes, which are ended where
reading takes too long; decord, PyAV, soundfile and librosa are imported when they are needed.

    frames.py  sound.py  sampling.py            what adapters call
    index.py  decode.py  faces.py               one file: which frames it has; pixels
    track.py  nearest.py                        one file: samples
    reading.py  pool.py  child.py  wire.py      where that runs, and for how long
    settings.py  observe.py                     how a run reads; what was read, for its notes
"""

from ovmer.adapters.media import sampling
from ovmer.adapters.media.frames import Frames, read_frames
from ovmer.adapters.media.observe import Observed, observing
from ovmer.adapters.media.resample import Resampling, Samples
from ovmer.adapters.media.settings import MediaSettings, configure
from ovmer.adapters.media.sound import Channels, read_nearest, read_sound, read_windows

__all__ = [
    "Channels",
    "Frames",
    "MediaSettings",
    "Observed",
    "Resampling",
    "Samples",
    "configure",
    "observing",
    "read_frames",
    "read_nearest",
    "read_sound",
    "read_windows",
    "sampling",
]
