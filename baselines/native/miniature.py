"""Random miniatures of the chat MLLMs of transformers, made without a download.

The architecture's configuration class, as transformers has it by default, is shrunk by one table of
names, for the names of sizes hardly differ between models; so a model that nobody has thought of
here has its miniature too. Exceptions are in shrink.yaml, or under `shrink` in the yaml of the
baseline.

The processor is the real one with its default settings, around the small tokenizer of
`ovmer.baselines.native.tokens`. Everything is written with `save_pretrained`, as published
checkpoints are.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from transformers import PreTrainedConfig, ProcessorMixin
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from ovmer.baselines.errors import PrerequisiteError, first_line
from ovmer.baselines.miniature import THINKING, end_thinking, random_tensors
from ovmer.baselines.native import mistral
from ovmer.baselines.native.classes import class_named
from ovmer.baselines.native.low_rank import write_adapter
from ovmer.baselines.native.tokens import chat_template, name_tokens, small_tokenizer

_WIDTH, _LAYERS, _HEADS = 64, 2, 2  # heads of 32, the smallest that vLLM takes on a CPU

_SIZES: tuple[tuple[str, Any], ...] = (
    (r"(num_)?(hidden_|encoder_|decoder_)?layers|depth|num_blocks", _LAYERS),
    (r"hidden_size(_per_layer_input)?|d_model|out_hidden_size|output_dim|embed_dim|n_embd", _WIDTH),
    (r"(encoder_|decoder_|moe_|shared_expert_)?(ffn_dim|intermediate_size)", 2 * _WIDTH),
    (r"(num_|encoder_|decoder_)?(attention_)?heads", _HEADS),
    (r"num_key_value_heads", 1),
    (r"(global_)?head_dim|attention_head_dim", _WIDTH // _HEADS),
    (r"num_(local_|routed_)?experts|n_routed_experts", 4),
    (r"num_experts_per_tok", 2),
    (r"max_window_layers", _LAYERS),
    (r".*(_indexes|_indices)", [_LAYERS - 1]),
)
"""Names of a configuration, whole, and the value that a miniature has there."""

_PARTS: Mapping[str, Mapping[str, Any]] = {
    "image_processor": IMAGE_PROCESSOR_MAPPING_NAMES,
    "video_processor": VIDEO_PROCESSOR_MAPPING_NAMES,
}

_CONTRASTIVE = ("clip_vision_model", "siglip_vision_model")
"""Vision towers out of models of pictures and texts, as the names of their tensors tell."""


def write_miniature(
    folder: Path,
    architecture: str,
    shrink: Mapping[str, Any],
    seed: int,
    adapters: Sequence[str] = (),
) -> None:
    """Write a random checkpoint of `architecture` into `folder`, its low-rank `adapters` below it.

    `shrink` holds values for dotted names of the configuration, `text_config.head_dim`, of the
    processor's parts, `processor.video_processor.size`, and for the tokens of its tokenizer,
    `tokens.image_token`; with `thinks: true` the template opens a thinking part, which the model is
    apt to end. Raises PrerequisiteError where transformers has no such architecture, or
    it cannot be built with these sizes.
    """
    disable_progress_bar()
    cls = class_named(architecture)
    known = yaml.safe_load(Path(__file__).with_name("shrink.yaml").read_text(encoding="utf-8"))
    shrink = {**known.get(architecture, {}), **shrink}
    try:
        _write_with_tokens(folder, cls, shrink, seed, adapters)
    except ImportError as error:
        raise PrerequisiteError(
            f"{architecture} needs a package that is not installed ({first_line(error)})"
        ) from error
    except (LookupError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise PrerequisiteError(
            f"no miniature can be made of {architecture} ({type(error).__name__}: "
            f"{first_line(error)}), which says nothing about the model itself; set what it lacks "
            "under baseline.shrink, or run it without dry_run"
        ) from error


def _write_with_tokens(
    folder: Path, cls: Any, shrink: Mapping[str, Any], seed: int, adapters: Sequence[str]
) -> None:
    """Write it with those tokens too that its processor looks for in vain."""
    while True:
        try:
            return _write(folder, cls, shrink, seed, adapters)
        except AttributeError as error:
            found = re.search(r"has no attribute '?(\w+_token)\b", str(error))
            if found is None or (key := f"tokens.{found[1]}") in shrink:
                raise
            shrink = {**shrink, key: f"<|{found[1].removesuffix('_token')}|>"}


def _write(
    folder: Path, cls: Any, shrink: Mapping[str, Any], seed: int, adapters: Sequence[str]
) -> None:
    model_type = cls.config_class.model_type
    of_processor = next(
        (kind for kind in (model_type, cls.base_model_prefix) if kind in PROCESSOR_MAPPING_NAMES),
        model_type.rpartition("_")[0] or model_type,  # an omni model's thinker is a part of it
    )
    if of_processor in mistral.MODELS:
        tokenizer = mistral.write_tokenizer(folder)
    else:
        names, thinks = _below("tokens", shrink), "thinks" in shrink
        tokenizer = small_tokenizer(_processor_class(of_processor), names, thinks)
    config = _config(cls.config_class, tokenizer, shrink)
    processor = _processor(of_processor, config, tokenizer, shrink)
    config = _config(cls.config_class, tokenizer, shrink)  # processors add tokens of their own
    name_tokens(config, processor, _below("tokens", shrink))
    processor.save_pretrained(folder)
    torch.manual_seed(seed)
    model = cls(deepcopy(config)).eval()
    model.config = config  # as it was: timm's builders, in Gemma 3n, write into theirs
    tensors = random_tensors(model, seed)
    if "thinks" in shrink:
        (head,) = (name for name in tensors if name.endswith("lm_head.weight"))
        end = tokenizer.convert_tokens_to_ids(THINKING[1])
        (words,) = (
            name
            for name, each in tensors.items()
            if name.endswith("embed_tokens.weight") and each.shape == tensors[head].shape
        )
        end_thinking(tensors[words], tensors[head], end)
    model.load_state_dict(tensors, strict=False)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for number, name in enumerate(adapters, start=1):
        write_adapter(folder / name, model, seed + number)
    model.half().save_pretrained(folder)
    _publish(folder, of_processor, config)


def _config(cls: type[PreTrainedConfig], tokenizer: Any, shrink: Mapping[str, Any]) -> Any:
    """The class's default configuration in small."""
    wanted = {
        name: value
        for name, value in shrink.items()
        if name.partition(".")[0] not in ("processor", "tokens", "thinks")
    }
    # First what is not there by default, then its size.
    whole = cls.from_dict(_overlaid(cls().to_dict(), wanted))
    values = _overlaid(_shrunk(whole.to_dict(), tokenizer), wanted)
    config = cls.from_dict(values)
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        known = getattr(part, "ignore_keys_at_rope_validation", ())
        if "mrope_section" in known:
            turned = part.rope_parameters.get("partial_rotary_factor", 1) * _WIDTH / _HEADS
            side = int(turned) // 2 // 3
            part.rope_parameters["mrope_section"] = [int(turned) // 2 - 2 * side, side, side]
        if "mrope_interleaved" in known:  # as published; transformers' default
            part.rope_parameters["mrope_interleaved"] = True
    # Gemma 3n embeds the last ids, first those of pictures, then those of sound, by themselves.
    end = len(tokenizer)
    for part in reversed([getattr(config, name) for name in config.sub_configs]):
        if hasattr(part, "vocab_offset"):
            end -= part.vocab_size
            part.vocab_offset = end
    # transformers asks the whole, vLLM the part.
    if (tied := getattr(config, "tie_word_embeddings", None)) is not None:
        config.get_text_config().tie_word_embeddings = tied
    return config


def _shrunk(values: Any, tokenizer: Any) -> Any:
    if not isinstance(values, dict):
        return values
    small = {}
    for name, value in values.items():
        found = next((size for names, size in _SIZES if re.fullmatch(names, str(name))), value)
        if name == "per_layer_config":
            continue  # speaks of layers that are gone
        if isinstance(value, dict) and name.endswith("_config"):
            small[name] = _shrunk(value, tokenizer)
        elif name in ("vocab_size", "vocab_size_per_layer_input"):
            small[name] = len(tokenizer)
        elif name == "layer_types" and value:
            small[name] = [value[0], value[-1]]
        elif re.fullmatch(r"(bos|eos|pad)_token_id", name) and value is not None:
            small[name] = getattr(tokenizer, name)
        elif (
            value is None
            or isinstance(value, bool)
            or isinstance(found, list) != isinstance(value, list)
        ):
            small[name] = value
        else:
            small[name] = found
    return small


def _overlaid(values: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with what dotted names say; an empty mapping asks for a part with its defaults."""
    for name, value in wanted.items():
        *path, last = name.split(".")
        here = values
        for part in path:
            if here.get(part) is None:
                here[part] = {}
            here = here[part]
        if value != {} or here.get(last) is None:
            here[last] = deepcopy(value)
    return values


def _below(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of dotted names that begin with `name`, under the rest of their names."""
    start = f"{name}."
    return {
        key.removeprefix(start): value for key, value in values.items() if key.startswith(start)
    }


def _processor_class(model_type: str) -> type[ProcessorMixin]:
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    if name is None:
        raise PrerequisiteError(
            f"transformers {transformers.__version__} has no processor for {model_type!r}, so "
            "baseline.architecture cannot be asked about pictures or sound"
        )
    found: type[ProcessorMixin] = getattr(transformers, name)
    return found


def _processor(
    model_type: str, config: Any, tokenizer: Any, shrink: Mapping[str, Any]
) -> ProcessorMixin:
    cls = _processor_class(model_type)
    own = _overlaid({}, _below("processor", shrink))
    parts: dict[str, Any] = {}
    for name in cls.get_attributes():
        settings = own.pop(name, {})
        if name == "tokenizer":
            parts[name] = tokenizer
            continue
        part = _part(name, model_type, config)
        parts[name] = part(**{**_fitting(part, config), **settings})
    if "image_processor" in parts and "video_processor" in parts:
        # One scale for both in published files, where defaults differ; vLLM knows one alone.
        for name in ("image_mean", "image_std"):
            setattr(parts["image_processor"], name, getattr(parts["video_processor"], name))
    expected = inspect.signature(cls.__init__).parameters
    for name, value in _geometry(config).items():
        if name in expected:
            own.setdefault(name, value)
    processor = cls(**parts, **own)
    if type(tokenizer).__name__ != mistral.NAME:
        processor.chat_template = chat_template(processor, "thinks" in shrink)
    return processor


def _fitting(part: type[Any], config: Any) -> dict[str, Any]:
    """Settings of a part of the processor that must match the model."""
    vision, audio = (getattr(config, f"{kind}_config", None) for kind in ("vision", "audio"))
    found = {}
    for name, model_name in (
        ("patch_size", "patch_size"),
        ("temporal_patch_size", "temporal_patch_size"),
        ("merge_size", "spatial_merge_size"),
    ):
        value = getattr(vision, model_name, None)
        if value is not None and isinstance(getattr(part, name, None), int):
            found[name] = value
    if isinstance(side := getattr(vision, "image_size", None), int):
        found |= _resizing(part, side)
    mel = getattr(audio, "num_mel_bins", None)
    if mel and "feature_size" in inspect.signature(part.__init__).parameters:
        found["feature_size"] = mel
    return found


def _resizing(part: type[Any], side: int) -> dict[str, Any]:
    """The size to which a part brings pictures: that for which the model has positions."""
    square = {"height": side, "width": side}
    if getattr(part, "do_center_crop", None):
        return {"size": {"shortest_edge": side}, "crop_size": square}
    size = getattr(part, "size", None)
    return {"size": square} if isinstance(size, Mapping) and size.keys() == square.keys() else {}


def _geometry(config: Any) -> dict[str, Any]:
    """Sizes by which LLaVA's processors count the placeholders."""
    vision = getattr(config, "vision_config", None)
    side, patch = (getattr(vision, name, None) for name in ("image_size", "patch_size"))
    same = ("vision_feature_select_strategy", "spatial_merge_size", "num_query_tokens")
    found = {name: getattr(config, name, None) for name in same}
    if isinstance(side, int) and isinstance(patch, int):
        found |= {"patch_size": patch, "num_image_tokens": (side // patch) ** 2}
    if getattr(vision, "model_type", None) == "clip_vision_model":
        found["num_additional_image_tokens"] = 1  # CLIP's class token
    return {name: value for name, value in found.items() if value is not None}


def _part(what: str, model_type: str, config: Any) -> type[Any]:
    table = _PARTS.get(what, FEATURE_EXTRACTOR_MAPPING_NAMES)
    processor = PROCESSOR_MAPPING_NAMES[model_type]
    # Kin with the same processor: transformers names no image processor for Qwen3-VL's mixture.
    kin = [kind for kind, name in PROCESSOR_MAPPING_NAMES.items() if name == processor]
    # Last that of the tower for sound, where transformers names none for the whole model.
    tower = str(getattr(getattr(config, "audio_config", None), "model_type", None))
    kinds = (model_type, *kin, tower, tower.removesuffix("_encoder"))
    found = next((table[kind] for kind in kinds if table.get(kind)), None)
    if isinstance(found, dict):
        found = found.get("torchvision") or next(iter(found.values()))
    if found is None:
        raise PrerequisiteError(
            f"no random miniature can be made of {model_type!r}, as transformers names no default "
            f"{what} for it; run it without dry_run"
        )
    part: type[Any] = getattr(transformers, found)
    return part


def _publish(folder: Path, whole: str, config: Any) -> None:
    """Let the files be as the hub has them.

    The thinker of an omni model is a part of its checkpoint. What transformers 5.19 reads as
    published and writes otherwise is renamed.
    """
    file = folder / "model.safetensors"
    tensors = load_file(file)
    renamed = {"language_model.model.model.": "language_model.model."}  # Qwen2-Audio and the like
    if getattr(getattr(config, "vision_config", None), "model_type", None) in _CONTRASTIVE:
        renamed["vision_tower."] = "vision_tower.vision_model."
    for written, published in renamed.items():
        tensors = {name.replace(written, published): each for name, each in tensors.items()}
    if whole != config.model_type:
        prefix = config.model_type.removeprefix(f"{whole}_")  # `thinker`
        tensors = {f"{prefix}.{name}": each for name, each in tensors.items()}
        names = [name.replace(prefix.title(), "") for name in config.architectures]
        config_json = {
            "architectures": names,
            "model_type": whole,
            f"{prefix}_config": config.to_dict(),
        }
        (folder / "config.json").write_text(json.dumps(config_json), encoding="utf-8")
    save_file(tensors, file, metadata={"format": "pt"})
