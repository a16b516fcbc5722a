"""Files as people have them: which load, and then give the same model, and which are refused.

A row is a kind of file and its verdict. Each was seen in public text or follows from the code that
writes the file. Loaded means that every tensor of the module is what it is with the file as
published, unless the row says otherwise: no file loads into something else without a word.
"""

import argparse
import shutil
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ovmer.baselines.checkpoint import CheckpointPart, Loading
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from tests.adapters.small_mllms import configured
from tests.baselines.file_edits import (
    EasyDict,
    Edit,
    add,
    as_safetensors,
    beside,
    block_more,
    both,
    config,
    content,
    cut,
    drop,
    fewer_words,
    lose,
    more_words,
    no_index,
    nulls,
    older_format,
    pickled_model,
    renamed,
    repeat,
    rope,
    section,
    tensors,
    text,
)


@dataclass(frozen=True)
class Row:
    baseline: str
    part: str
    kind: str
    edit: Edit
    refused: str = ""
    """What the error says; empty: the file loads."""
    noted: str = ""
    """What is said of it once it is loaded."""
    ignore: str = ""
    """The user's word."""
    other: bool = False
    """It loads, and the module is not that of the published file."""


NAMESPACE = argparse.Namespace(lr=1e-4, output=PosixPath("out"))
LLM = "llama_model.model.layers.0.self_attn.q_proj.weight"

ROWS = (
    # -- beside the weights (training scripts), and how the file is wrapped
    Row("salmonn", "connector", "numpy scalar", beside(epoch=np.float64(0.5))),
    Row("salmonn", "connector", "Namespace", beside(args=NAMESPACE)),
    Row("salmonn", "connector", "Path", beside(output=PosixPath("a/b"))),
    Row("salmonn", "connector", "defaultdict", beside(meters=defaultdict(list, loss=[1.0]))),
    Row("salmonn", "connector", "a class of its own", beside(config=EasyDict())),
    Row("salmonn", "connector", "optimizer", beside(optimizer={"state": {0: torch.ones(3)}})),
    Row("salmonn", "connector", "flat", content(lambda c: c["model"]), noted="is not nested"),
    Row("salmonn", "connector", "state_dict", content(lambda c: {"state_dict": c["model"]}),
        noted="lies under 'state_dict'"),
    Row("salmonn", "connector", "nested twice", content(lambda c: {"state_dict": c}),
        noted="lies under 'state_dict.model'"),
    Row("salmonn", "connector", "two state dicts",
        content(lambda c: {"module": c["model"], "state_dict": c["model"]}),
        refused="several state dicts"),
    Row("salmonn", "connector", "EMA beside it", beside(ema={"ln_audio.bias": torch.ones(1)})),
    Row("salmonn", "connector", "flat with an epoch",
        content(lambda c: {**c["model"], "epoch": 3, "args": NAMESPACE}),
        noted="args, epoch beside the tensors"),
    Row("salmonn", "connector", "pickled model", pickled_model, refused="a pickled model.*Linear"),
    Row("salmonn", "connector", "no dict", content(lambda c: [1, 2]), refused="no state dict"),
    Row("salmonn", "connector", "optimizer alone",
        content(lambda c: {"optimizer": {"state": {}}}), refused="no state dict"),
    Row("salmonn", "connector", "module. before all names", renamed("", "module."),
        noted="'module.', which was taken off"),
    Row("salmonn", "connector", "_orig_mod. before all names", renamed("", "_orig_mod."),
        noted="'_orig_mod.', which was taken off"),
    Row("salmonn", "connector", "module. before some names",
        renamed("speech_", "module.speech_"), refused="Q-Former|no place for"),
    Row("salmonn", "connector", "format of before 2020", older_format),
    Row("salmonn", "connector", "half downloaded", cut, refused="half downloaded"),
    Row("salmonn", "connector", "git-lfs pointer",
        text("version https://git-lfs.github.com/spec/v1\n"), refused="git lfs pull"),
    Row("salmonn", "connector", "web page", text("<!doctype html><html>"), refused="web page"),
    # -- HumanOmni
    Row("humanomni", "model", "position ids of an older BERT",
        add("model.bert_model.embeddings.position_ids"), noted="not used by this model"),
    Row("humanomni", "model", "no copies of the towers", drop("_tower.")),
    Row("humanomni", "model", "no BERT", drop("bert_model."), refused="needs bert\\.embeddings"),
    Row("humanomni", "model", "low-rank adapters",
        add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"),
        refused="no place for"),
    Row("humanomni", "siglip", "vision half alone", drop("logit_scale")),
    Row("humanomni", "siglip", "CLIP's class token",
        add("vision_model.embeddings.class_embedding"), refused="no place for"),
    Row("humanomni", "whisper", "without its decoder", drop("decoder.")),
    Row("humanomni", "whisper", "decoder alone", drop("encoder."), refused="needs whisper\\."),
    # -- SALMONN
    Row("salmonn", "connector", "shared tables of BEATs",
        add(*(f"beats.encoder.layers.{i}.self_attn.relative_attention_bias.weight"
              for i in range(1, 12))), noted="beats.encoder.layers.*"),
    Row("salmonn", "connector", "unknown tensor", add("ln_video.weight"),
        refused=r"\+baseline\.checkpoint\.connector\.ignore=\[ln_video\.weight\]"),
    Row("salmonn", "connector", "the same, ignored", add("ln_video.weight"),
        ignore="ln_v*", noted="left aside, as the setting ignore says"),
    Row("salmonn", "connector", "ignored, but needed", drop("speech_llama_proj.bias"),
        ignore="*", refused="needs projector.bias"),
    Row("salmonn", "connector", "adapters missing", drop("layers.1.self_attn.q_proj.lora_B"),
        refused="lacks llm.model.layers.1"),
    Row("salmonn", "llm", "shards without an index", no_index, noted="have no index"),
    Row("salmonn", "llm", "one of them missing", both(no_index, lose("*-00002-of-*")),
        refused="lacks shard 2 of 2"),
    Row("salmonn", "llm", "shard of the index missing", lose("*-00002-of-*"),
        refused="lacks the shard pytorch_model-00002"),
    Row("salmonn", "llm", "safetensors", as_safetensors),
    Row("salmonn", "llm", "index of safetensors, weights of torch",
        lambda part: (part / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}') and None),
    Row("salmonn", "llm", "linear rope of before 4.43", rope({"type": "linear", "factor": 4.0}),
        other=True),
    Row("salmonn", "llm", "rope of transformers 5",
        rope({"rope_type": "default", "rope_theta": 10000.0}, "rope_parameters")),
    Row("salmonn", "llm", "rope of an unknown kind", rope({"type": "wavy"}), refused="'wavy'"),
    Row("salmonn", "beats", "cfg is a Namespace",
        content(lambda c: {**c, "cfg": argparse.Namespace(**c["cfg"])})),
    # -- Vicuna v0
    Row("pandagpt", "llm", "32001 rows, config 32000", more_words, noted="the rows count",
        other=True),
    Row("videochat2", "llm", "32001 rows, config 32000", more_words, noted="the rows count",
        other=True),
    Row("pandagpt", "llm", "a row more in one table",
        tensors(lambda s: {k: torch.cat([t, t[:1]]) if "embed_tokens" in k else t
                           for k, t in s.items()}), refused="has shape"),
    Row("pandagpt", "llm", "inv_freq", add("model.layers.0.self_attn.rotary_emb.inv_freq")),
    Row("pandagpt", "llm", "the very first conversion",
        renamed("model.layers.", "model.decoder.layers."), refused="no place for|needs"),
    Row("pandagpt", "connector", "nested", content(lambda c: {"model": c}), noted="lies under"),
    # -- HuBERT
    Row("affectgpt", "hubert", "hubert. before all names", renamed("", "hubert.")),
    Row("affectgpt", "hubert", "no masked_spec_embed", drop("masked_spec_embed")),
    Row("affectgpt", "hubert", "lm_head", both(renamed("", "hubert."), add("lm_head.weight")),
        refused="trained further"),
    Row("affectgpt", "hubert", "lm_head, ignored", add("lm_head.bias"),
        ignore="lm_head.*", noted="left aside"),
    Row("affectgpt", "hubert", "a layer missing", drop("encoder.layers.4."),
        refused="needs hubert"),
    # -- AffectGPT
    Row("affectgpt", "trained", "llama_proj", renamed("affectgpt_proj.", "llama_proj.")),
    Row("affectgpt", "trained", "llama_proj beside affectgpt_proj", add("llama_proj.bias"),
        refused="both stand for"),
    Row("affectgpt", "trained", "buffers",
        add("x.position_ids", "llama_model.base_model.model.model.rotary_emb.inv_freq")),
    # -- Emotion-LLaMA
    Row("emotion_llama", "trained", "bare", content(lambda c: c["model"]), noted="not nested"),
    Row("emotion_llama", "trained", "an adapter missing", drop("layers.1.self_attn.q_proj.lora_A"),
        refused="lacks llm.model.layers.1.self_attn.q_proj.lora_A"),
    Row("emotion_llama", "trained", "adapters of the keys", add(
        "llama_model.base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight"),
        refused="unexpected llm.model.layers.0.self_attn.k_proj"),
    Row("emotion_llama", "trained", "a norm of the picture", add("ln_vision.weight"),
        refused="no place for"),
    Row("emotion_llama", "trained", "peft since 0.3",
        tensors(lambda s: {k.replace("lora_A.w", "lora_A.default.w").replace(
            "lora_B.w", "lora_B.default.w"): t for k, t in s.items()})),
    # -- OneLLM
    Row("onellm", "model", "rope.freqs", add("rope.freqs")),
    Row("onellm", "model", "nested", content(lambda c: {"model": c})),
    Row("onellm", "model", "no params.json, other sizes", lose("params.json"),
        refused="no params.json, and its weights are not of OneLLM-7B"),
    # -- Video-ChatGPT
    Row("video_chatgpt", "llm", "LLaVA's copy of the tower",
        add("model.vision_tower.vision_model.embeddings.class_embedding")),
    Row("video_chatgpt", "llm", "plain LLaMA's config",
        config(lambda values: values.update(vocab_size=400)), noted="the rows count"),
    Row("video_chatgpt", "llm", "LLaVA with plain LLaMA's words", fewer_words(400),
        noted="tokens of LLaVA's pictures left aside", other=True),
    Row("video_chatgpt", "llm", "plain LLaMA", both(fewer_words(400), drop("mm_projector")),
        refused=r"406 rows, for a language model of 403.*has 400"),
    Row(
        "video_chatgpt", "connector", "lm_head", add("lm_head.weight", shape=(406, 32)), other=True,
    ),
    Row("video_chatgpt", "connector", "no words", drop("embed_tokens"), refused="embed_tokens"),
    # -- Otter, mPLUG-Owl, LLaMA-VID: configurations
    Row("otter", "model", "text_config in text_config",
        config(lambda v: v.update(text_config={"text_config": v["text_config"]}))),
    Row("otter", "model", "vision_config in vision_config",
        config(lambda v: v.update(vision_config={"vision_config": v["vision_config"]}))),
    Row("otter", "model", "vision_config without defaults",
        section("vision_config", "clip_vision_model", "layer_norm_eps", "hidden_act")),
    Row("otter", "model", "text_config without defaults, of another size",
        section("text_config", "llama", "intermediate_size"),
        refused="has shape"),
    Row("otter", "model", "text_config without sizes",
        section("text_config", "other", "hidden_size"), refused="hidden_size"),
    Row("otter", "model", "vision_config null", nulls("vision_config"), refused="lacks"),
    Row("otter", "model", "OpenFlamingo's second names", tensors(
        repeat("lang_encoder.model.layers.0.", "lang_encoder.old_decoder_blocks.0."))),
    Row("otter", "model", "one tensor under two names", tensors(
        repeat("perceiver.latents", "perceiver.latents2")), refused="latents2"),
    Row("otter", "model", "no lm_head", drop("lm_head"), refused="needs llm.lm_head"),
    Row("mplug_owl", "model", "abstractor_config", config(
        lambda values: values.update(abstractor_config=values.pop("visual_abstractor_config")))),
    Row("mplug_owl", "model", "the image model", drop(".temporal."), refused="needs tower.layers"),
    Row("llama_vid", "llm", "null for false", nulls("mm_use_im_start_end")),
    Row("llama_vid", "llm", "null for a kind", nulls("compress_type"),
        refused="compress_type=None"),
    Row("llama_vid", "llm", "no Q-Former", drop("vlm_att"),
        refused="no model.vlm_att_query|no state dict"),
    # -- EVA and BLIP-2
    Row("llama_vid", "vision", "mask_token", add("mask_token"), refused="masked pictures"),
    Row("llama_vid", "vision", "lm_head", add("lm_head.weight"), refused="masked pictures"),
    Row("llama_vid", "vision", "rel_pos_bias", add("rel_pos_bias.relative_position_bias_table"),
        refused="relative positions"),
    Row("llama_vid", "vision", "head of a classifier", add("head.weight", "fc_norm.weight")),
    Row("llama_vid", "vision", "a layer missing inside", drop("blocks.0."), refused="EVA"),
    Row("videochat", "qformer", "copy of the tower", add("visual_encoder.cls_token")),
    Row("videochat", "qformer", "first stage", add("itm_head.weight"), refused="first stage"),
    Row("videochat", "qformer", "of OPT", add("opt_proj.weight"), refused="another language model"),
    Row("videochat", "qformer", "of Flan-T5-xl", add("t5_proj.weight", shape=(2048, 48)),
        refused="Flan-T5-xl"),
    Row("videochat", "qformer", "of Flan-T5-xxl", add("t5_proj.weight", shape=(4096, 48))),
    # -- VideoChat, VideoChat2, Video-LLaMA
    Row("videochat", "trained", "copy of the language model", add(LLM)),
    Row("videochat", "trained", "copy of the tower", add("visual_encoder.blocks.0.norm1.weight")),
    Row("videochat", "trained", "low-rank adapters (VideoChat2)",
        add("llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"),
        refused="no place for"),
    Row("videochat2", "stages", "clip_decoder", add("vision_encoder.clip_decoder.0.head.weight")),
    Row("videochat2", "stages", "base_layer",
        add("llama_model.base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight")),
    Row("videochat2", "stages", "a block more in stage 1", block_more),
    Row("salmonn", "connector", "copy of BEATs and Whisper",
        add("beats.layer_norm.weight", "speech_encoder.conv1.weight")),
    Row("video_llama", "seeing", "the other branch", add("audio_query_tokens", "audio_Qformer.x")),
    Row("video_llama", "seeing", "copy of the language model", add(LLM)),
    Row("video_llama", "seeing", "of audio alone", renamed("video_", "audio_"),
        refused="no seeing.video_q|Q-Former"),
    # -- SECap, Video-LLaVA, Chat-UniVi
    Row("secap", "model", "state_dict", content(lambda c: {"state_dict": c}), noted="lies under"),
    Row("secap", "model", "Lightning's checkpoint",
        content(lambda c: {"state_dict": c, "hyper_parameters": NAMESPACE, "epoch": 3})),
    Row("video_llava", "llm", "copy of a tower", add("model.image_tower.x.weight")),
    Row("video_llava", "tower", "the image tower", drop(".temporal_"),
        refused="needs tower.layers"),
    Row("chat_univi", "llm", "shards without an index", no_index, noted="have no index"),
)  # fmt: skip


class Miniatures:
    """The checkpoint of each miniature, and what its module holds; made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, tuple[Path, dict[str, str], dict[str, Tensor]]] = {}

    def of(self, name: str) -> tuple[Path, dict[str, str], dict[str, Tensor]]:
        if name not in self._made:
            folder = self._folder / name
            parts = configured(name).miniature(folder).checkpoint
            paths = {part: str(Path(each.path or "")) for part, each in parts.items()}
            held, _ = loaded(name, {key: CheckpointPart(path=path) for key, path in paths.items()})
            self._made[name] = folder, paths, held
        return self._made[name]


def loaded(name: str, parts: dict[str, CheckpointPart]) -> tuple[dict[str, Tensor], list[str]]:
    adapter = replace(configured(name), checkpoint=parts)
    loading = Loading(parts, adapter.parts)
    module: Any = adapter.build(Placement(torch.device("cpu"), torch.float32, loading=loading))
    return {**module.state_dict(), **dict(module.named_buffers())}, loading.notes


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Miniatures:
    return Miniatures(tmp_path_factory.mktemp("published"))


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= 60
    assert len({(row.baseline, row.part, row.kind) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.baseline}-{row.part}-{row.kind}")
def test_each_kind_of_file_has_its_verdict(
    row: Row, miniatures: Miniatures, tmp_path: Path
) -> None:
    folder, paths, as_published = miniatures.of(row.baseline)
    shutil.copytree(folder, tmp_path / "copy")
    parts = {
        name: CheckpointPart(path=str(tmp_path / "copy" / Path(path).relative_to(folder)))
        for name, path in paths.items()
    }
    row.edit(Path(parts[row.part].path or ""))
    if row.ignore:
        parts[row.part].ignore = [row.ignore]
    if row.refused:
        with pytest.raises(CheckpointError, match=row.refused) as error:
            loaded(row.baseline, parts)
        assert "\n" not in str(error.value)
        return
    held, notes = loaded(row.baseline, parts)
    assert row.noted in " | ".join(notes)
    same = held.keys() == as_published.keys() and all(
        torch.equal(held[key], as_published[key]) for key in held
    )
    assert same is not row.other
