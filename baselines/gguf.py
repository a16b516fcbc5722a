"""Language models in GGUF files, as llama.cpp keeps them: read once, kept as ordinary folders.

transformers reads such a file (`gguf_file=`, with the package `gguf`), but saves no model that it
has read so. Here the weights are dequantised to float32 and written to a folder in its own layout,
which every engine reads. Unlike a model that is quantised while it runs, the copy computes in full
precision with the file's rounded weights.
"""

import io
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path

from ovmer.baselines.cache import write_once
from ovmer.baselines.checkpoint import fingerprint
from ovmer.baselines.errors import CheckpointError, first_line

SUFFIX = ".gguf"


def unpacked(file: Path, cache: Path) -> Path:
    """The folder below `cache` with the model of a GGUF file in transformers' layout, written once.

    Its name ends in a hash of the file. Raises CheckpointError where the file cannot be read, the
    package `gguf` is missing, or the folder cannot be written.
    """
    folder = cache / f"{file.stem}-{fingerprint(file)}"
    try:
        write_once(folder, partial(_convert, file))
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be unpacked into {cache} ({error.strerror or first_line(error)}); set "
            "engine.cache to a folder with room for it"
        ) from error
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=torch.float32, **options
            )
    except ImportError as error:
        raise CheckpointError(
            f"{file} needs the package gguf; pip install 'ovmer[demo]'"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, struct.error) as error:
        raise CheckpointError(
            f"{file} is no GGUF file of a model that transformers knows ({first_line(error)})"
        ) from error
    config = model.config.to_dict()
    config.pop("quantization_config", None)  # what is written is not quantised any more
    config |= {"architectures": [type(model).__name__], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of transformers, one of which no setting turns off."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        if was_on:
            logging.enable_progress_bar()
