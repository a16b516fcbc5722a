"""Subtitles by ear: a Whisper model of transformers, or a server that takes OpenAI's requests."""

import io
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import ClipError, PrerequisiteError, Unavailable, first_line, one_of
from ovmer.baselines.gpu import release_memory
from ovmer.runners.parts.cache import PartCache

if TYPE_CHECKING:
    from ovmer.adapters.media import Samples

RATE = 16_000
_WINDOW_SECONDS = 30.0
"""Whisper's window; longer sounds go through its long-form decoding."""
_SILENCE = 1e-3
"""Peak below which nothing is said (-60 dB of full scale); Whisper makes words up there."""
_VERSION = 2


@dataclass
class AsrSettings:
    """`conf/asr/NAME.yaml`."""

    name: str = "none"
    model: str = ""
    """Hub id@revision, a folder, or the name of a server's model."""
    language: str | None = None
    """As Whisper names it (`english`, `zh`); None: detected by the model, clip by clip."""
    clips: str = "missing"
    """Whose words are heard: of clips without a subtitle (missing), or of all."""
    base_url: str | None = None
    """A server's; None: the model runs here."""
    key_variable: str = "OPENAI_API_KEY"
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        one_of("asr.clips", self.clips, ("missing", "all"))

    @property
    def identity(self) -> dict[str, Any]:
        """All that shapes the words."""
        where = "server" if self.base_url else "transformers"
        return {
            "model": self.model,
            "language": self.language,
            "engine": where,
            "clips": self.clips,
            "version": _VERSION,
        }


class Listener:
    """Transcribes speech; the model is loaded with the first clip.

    Several threads may use one: they read files side by side, and the model hears one at a time.
    """

    def __init__(self, settings: AsrSettings) -> None:
        self._settings = settings
        heard = {k: v for k, v in settings.identity.items() if k != "clips"}
        self.cache = PartCache("asr", heard)
        self._model: Any = None
        self._processor: Any = None
        self._turn = threading.Lock()

    def make(self, audio: Path) -> None:
        """Put the words of a sound file, or of a video's sound, into the cache.

        One that cannot be read, or has no sound, is kept as such. Raises PrerequisiteError where
        the model is not to be had.
        """
        from ovmer.adapters.media import read_sound

        try:
            sound = read_sound(audio, RATE)
        except Unavailable:
            return
        except ClipError as error:
            self.cache.keep(audio, {"text": None, "error": str(error)})
            return
        self.cache.keep(audio, self._words(sound))

    def close(self) -> None:
        """Free the model."""
        self._model = self._processor = None
        release_memory()

    def _words(self, sound: "Samples") -> dict[str, Any]:
        if abs(sound).max() < _SILENCE:
            return {"text": "", "language": None}
        if self._settings.base_url:
            return self._ask_server(sound)
        with self._turn:
            return self._ask_model(sound)

    def _ask_server(self, sound: "Samples") -> dict[str, Any]:
        import soundfile
        from openai import OpenAI, OpenAIError

        file = io.BytesIO()
        soundfile.write(file, sound, RATE, format="WAV", subtype="PCM_16")
        settings = self._settings
        language: Any = {"language": settings.language} if settings.language else {}
        key = os.environ.get(settings.key_variable) or "none"
        try:
            with OpenAI(base_url=settings.base_url, api_key=key) as client:
                reply = client.audio.transcriptions.create(
                    model=settings.model, file=("clip.wav", file.getvalue()), **language
                )
        except OpenAIError as error:
            said = first_line(error).replace(key, "...")
            raise PrerequisiteError(
                f"asr.base_url={settings.base_url} does not write down sounds ({said}); correct "
                "asr.base_url or asr.model"
            ) from error
        return {"text": reply.text.strip(), "language": settings.language}

    def _ask_model(self, sound: "Samples") -> dict[str, Any]:
        import torch

        processor, model = self._loaded()
        is_long = len(sound) > _WINDOW_SECONDS * RATE
        options = {"truncation": False, "padding": "longest"} if is_long else {}
        inputs = processor(
            sound, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **options
        )
        features = inputs.input_features.to(model.device, model.dtype)
        language, asked = self._settings.language, dict[str, Any]()
        with torch.inference_mode():
            if getattr(model.generation_config, "is_multilingual", False):
                language = language or self._language(features)
                asked = {"task": "transcribe", "language": language}
            ids = model.generate(
                features,
                attention_mask=inputs.attention_mask.to(model.device),
                return_timestamps=is_long,
                **asked,
            )
        text = processor.batch_decode(ids, skip_special_tokens=True)[0].strip()
        return {"text": text, "language": language}

    def _language(self, features: Any) -> str:
        """The code of the language that is spoken in the first 30 s."""
        generation = self._model.generation_config
        window = features[..., : self._model.config.max_source_positions * 2]
        (spoken,) = self._model.detect_language(window, generation_config=generation).tolist()
        names = {number: name for name, number in generation.lang_to_id.items()}
        return str(names[spoken]).strip("<|>")

    def _loaded(self) -> tuple[Any, Any]:
        if self._model is None:
            from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor
            from transformers.utils.logging import disable_progress_bar

            from ovmer.baselines.device import resolve

            disable_progress_bar()
            settings = self._settings
            placement = resolve(settings.device, settings.dtype)
            name, _, revision = settings.model.partition("@")
            where: Mapping[str, Any] = {"revision": revision} if revision else {}
            try:
                self._processor = AutoProcessor.from_pretrained(
                    name, trust_remote_code=False, **where
                )
                self._model = AutoModelForSpeechSeq2Seq.from_pretrained(
                    name,
                    dtype=placement.dtype,
                    use_safetensors=True,
                    trust_remote_code=False,
                    **where,
                ).to(placement.device)
            except (OSError, ValueError) as error:
                raise PrerequisiteError(
                    f"asr.model={settings.model} cannot be loaded ({first_line(error)}); give a "
                    "folder or a hub id of a Whisper model, or asr.base_url of a server"
                ) from error
        return self._processor, self._model
