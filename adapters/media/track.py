"""Samples as a file holds them, with notes on what is odd about them.

Sound files are read with soundfile, which goes by content and not by name (an MP3 called .wav
reads). Sound tracks are read with PyAV and not with decord's AudioReader, of which release 0.6 was
measured to keep every clip's samples in memory for ever (360 kB for two seconds), to lose a file
handle for each video without sound, to write the second channel over the first, and to reset its
resampler after every packet (5 dB of signal to noise where FFmpeg itself has 20 against soxr).
"""

import math
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ovmer.adapters.media.container import open_container, require_codec, where
from ovmer.adapters.media.decode import MOST_BYTES, Reading
from ovmer.adapters.media.resample import Samples
from ovmer.baselines.errors import MissingModality, Unreadable

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_PIECE = 1 << 20  # samples
_RATES = (2_000, 768_000)
_LATE = 0.1  # seconds between the first picture and the first sound that deserve a note
_QUIET = 0.01  # of the channels' loudness: a mean below has cancelled them
_SHORT = 0.98  # of what the header promises
_STREAMED = 0x7FFF_0000  # sizes from here on mean "not known", as in a stream


def read_samples(path: Path, channels: str, max_seconds: float | None) -> Reading:
    """Samples [channels, n] with their rate; `channels` is mean, first or all."""
    collected = _read_sound_file(path, channels, max_seconds)
    if collected is None:
        collected = _read_track(path, channels, max_seconds)
    if not collected.taken:
        raise Unreadable(f"{where(path)} holds no samples")
    facts = {"rate": collected.rate, "notes": collected.all_notes()}
    return np.concatenate(collected.pieces, axis=1)[:, : collected.most], facts
    yield  # a Reading that asks for no indices


class _Collected:
    """Pieces of sound as they are read, their channels mixed, up to a bound."""

    def __init__(self, path: Path, rate: int, channels: str, max_seconds: float | None) -> None:
        if not _RATES[0] <= rate <= _RATES[1]:
            raise Unreadable(
                f"the header of {where(path)} claims {rate} samples a second, which cannot be; "
                f"extract the sound again, or set its rate: sox -r RATE {path.name} NEW.wav"
            )
        self.rate = rate
        self.notes: list[str] = []
        self.pieces: list[Samples] = []
        self.taken = 0
        self.most = None if max_seconds is None else int(max_seconds * rate)
        self._channels = channels
        self._bytes = 0
        self._loud = self._mixed = 0.0

    def add(self, piece: Samples) -> None:
        """Add samples [channels, n]."""
        mixed = piece
        if self._channels == "mean":
            mixed = piece.mean(axis=0, keepdims=True)
            if len(piece) > 1:
                self._loud += float(np.square(piece, dtype=np.float64).mean()) * piece.shape[1]
                self._mixed += float(np.square(mixed, dtype=np.float64).sum())
        elif self._channels == "first":
            mixed = piece[:1]
        self.pieces.append(mixed)
        self.taken += mixed.shape[1]
        self._bytes += mixed.nbytes

    @property
    def is_full(self) -> bool:
        return self._bytes >= MOST_BYTES or (self.most is not None and self.taken >= self.most)

    def all_notes(self) -> list[str]:
        """The notes, with those that only the whole tells."""
        found = list(self.notes)
        if self._loud > 0 and self._mixed < _QUIET**2 * self._loud:
            found.append("the sound's channels cancel each other, so that their mean is silent")
        if self._bytes >= MOST_BYTES:
            found.append(f"only the first {self.taken / self.rate:.0f} s of the sound were read")
        return found


def _read_sound_file(path: Path, channels: str, max_seconds: float | None) -> _Collected | None:
    """A sound file read by soundfile; None if it cannot read the format."""
    import soundfile

    try:
        with path.open("rb") as head:
            promised = _promised_bytes(head.read(4096), path.stat().st_size)
        with soundfile.SoundFile(path.absolute()) as file:
            found = _Collected(path, file.samplerate, channels, max_seconds)
            if promised:
                found.notes.append(promised)
            most = math.inf if found.most is None else found.most
            # Piece by piece: a damaged header may claim gigabytes.
            step = max(1, _PIECE // file.channels)
            while not found.is_full:
                piece = file.read(
                    int(min(most - found.taken, step)), dtype="float32", always_2d=True
                )
                found.add(piece.T)
                if len(piece) < step:
                    break
            return found
    except soundfile.LibsndfileError:
        return None


def _promised_bytes(head: bytes, size: int) -> str:
    """A note where a wav's header promises more data than the file holds."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return ""
    at = 12
    while at + 8 <= len(head):
        promised = struct.unpack_from("<I", head, at + 4)[0]
        if head[at : at + 4] == b"data":
            there = size - at - 8
            if promised >= _STREAMED or there >= promised * _SHORT:
                return ""
            return f"the header promises {promised:,} bytes of sound, but the file holds {there:,}"
        at += 8 + promised + promised % 2
    return ""


def _read_track(path: Path, channels: str, max_seconds: float | None) -> _Collected:
    """The default sound track of a file, or the first."""
    from av import AudioResampler

    with open_container(path) as container:
        stream = default_track(container, path)
        to_float = AudioResampler(format="fltp")  # [channels, n]; keeps rate and layout
        found: _Collected | None = None
        for piece in decoded(container, stream, to_float, path):
            if found is None:
                # Of the frame: a header may have half of what AAC decodes to.
                found = _Collected(path, piece.sample_rate, channels, max_seconds)
            found.add(piece.to_ndarray().astype(np.float32, copy=False))
            if found.is_full:
                break
        if found is None:
            raise Unreadable(f"{where(path)} holds no samples")
        found.notes += _notes_of_track(container, stream, found)
        return found


def decoded(
    container: "InputContainer", stream: "AudioStream", resampler: "AudioResampler", path: Path
) -> "Iterator[AudioFrame]":
    """A sound track as it comes out of `resampler`; Unreadable where it changes in the middle."""
    try:
        for frame in chain(container.decode(stream), (None,)):  # None: what the filter still holds
            yield from resampler.resample(frame)
    except ValueError as error:
        if isinstance(error, OSError) or type(error).__module__.startswith("av"):
            raise
        raise Unreadable(f"{where(path)} changes its channels or rate in the middle") from error


def default_track(container: "InputContainer", path: Path) -> "AudioStream":
    """The sound track that players choose; MissingModality where there is none."""
    from av.stream import Disposition

    tracks = container.streams.audio
    if not tracks:
        raise MissingModality(f"{where(path)} has no sound track")
    marked = [each for each in tracks if each.disposition & Disposition.default]
    chosen = (marked or list(tracks))[0]
    require_codec(chosen, path)
    return chosen


def _notes_of_track(
    container: "InputContainer", stream: "AudioStream", found: _Collected
) -> Iterator[str]:
    tracks = container.streams.audio
    if len(tracks) > 1:
        number = [each.index for each in tracks].index(stream.index) + 1
        yield f"of {len(tracks)} sound tracks, the default one (number {number}) was heard"
    begins = _start(stream)
    for picture in container.streams.video[:1]:
        if begins - _start(picture) > _LATE:
            pause = begins - _start(picture)
            yield f"the sound begins {pause:.2f} s after the picture; the pause was left out"
    promised = float((stream.duration or 0) * (stream.time_base or 0))
    heard = found.taken / found.rate
    if not found.is_full and heard < promised * _SHORT - _LATE:
        yield f"the header promises {promised:.1f} s of sound, but the file holds {heard:.1f} s"


def _start(stream: "AudioStream | object") -> float:
    start = getattr(stream, "start_time", None) or 0
    return float(start * (getattr(stream, "time_base", None) or 0))
