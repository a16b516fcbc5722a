"""Video-LLaMA (Zhang et al., EMNLP 2023, arXiv 2306.02858), the version of Llama 2 with 7B.

    T frames -> EVA-ViT-g -> LayerNorm -> Q-Former of BLIP-2, 32 queries -> T x 32 x 768
             -> + position of the frame -> video Q-Former, 32 queries    ->     32 x 768 | Linear |
    8 x 2 s of sound -> ImageBind                                        ->      8 x 1024
             -> + position in time      -> audio Q-Former, 8 queries     ->      8 x 768 | Linear |
        -> 32 and 8 vectors of width 4096 in the prompt of Llama 2 chat

The two branches know nothing of each other, so either is built and read without the other. Source:
DAMO-NLP-SG/Video-LLaMA at 64888c0a, `video_llama/models/video_llama.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Blip2VisionConfig, LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.eva_vit import (
    EVA_FILE,
    EVA_HEADS,
    EvaVit,
    eva_image_size,
    read_eva,
    write_eva_miniature,
)
from ovmer.baselines.layers.imagebind import (
    AUDIO,
    AUDIO_HEADS,
    IMAGEBIND_FILE,
    IMAGEBIND_PUBLISHED,
    MINI_AUDIO,
    ImageBindAudio,
    ImageBindConfig,
    imagebind_keys,
)
from ovmer.baselines.layers.qformer import (
    BLIP2_FILE,
    BLIP2_KEYS,
    QFormer,
    QFormerConfig,
    published_qformer,
    qformer_keys,
    read_blip2,
)
from ovmer.baselines.llama import MINI_LLAMA2, llama_config, read_llama, write_llama_miniature
from ovmer.baselines.miniature import of_file, publish, random_tensors
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

SEEING_FILE = "VL_LLaMA_2_7B_Finetuned.pth"
HEARING_FILE = "AL_LLaMA_2_7B_Finetuned.pth"
LLM_FOLDER = "llama-2-7b-chat-hf"

# Both files hold buffers of all the model beside what was trained.
_BUFFERS = (
    (r"rotary_emb\.inv_freq$", None),
    (r"\.position_ids$", None),
    (r"^audio_encoder\.", None),
    (r"^llama_model\.(model|lm_head)\.", None),  # frozen in training: a copy
)
_SEEING = r"^(video_query_tokens$|video_frame_position_embedding\.|video_Qformer\.|llama_proj\.)"
_HEARING = r"^(audio_query_tokens$|audio_position_embedding\.|audio_Qformer\.|audio_llama_proj\.)"
# Of the picture before the branch's own Q-Former: frozen copies, read from LAVIS' files.
_COPIES = (r"^(visual_encoder|ln_vision|Qformer)\.|^query_tokens$", None)
SEEING_KEYS = (
    *_BUFFERS,
    _COPIES,
    (_HEARING, None),  # the other branch
    (r"^video_query_tokens$", "seeing.video_queries"),
    (r"^video_frame_position_embedding\.", "seeing.positions."),
    *qformer_keys("video_Qformer.", "seeing.video_qformer."),
    (r"^llama_proj\.", "seeing.projector."),
)
HEARING_KEYS = (
    *_BUFFERS,
    _COPIES,
    (_SEEING, None),  # the other branch
    (r"^audio_query_tokens$", "hearing.queries"),
    (r"^audio_position_embedding\.", "hearing.positions."),
    *qformer_keys("audio_Qformer.", "hearing.qformer."),
    (r"^audio_llama_proj\.", "hearing.projector."),
)

# The way back, for miniatures: file/key.
_PUBLISHED = (
    (r"^llm\.", "llm/"),
    (r"^seeing\.video_queries$", "seeing/video_query_tokens"),
    (r"^seeing\.positions\.", "seeing/video_frame_position_embedding."),
    *published_qformer("seeing.video_qformer.", "seeing/video_Qformer."),
    (r"^seeing\.projector\.", "seeing/llama_proj."),
    (r"^seeing\.ln_vision\.", "qformer/ln_vision."),
    (r"^seeing\.queries$", "qformer/query_tokens"),
    *published_qformer("seeing.qformer.", "qformer/Qformer."),
    (r"^hearing\.queries$", "hearing/audio_query_tokens"),
    (r"^hearing\.positions\.", "hearing/audio_position_embedding."),
    *published_qformer("hearing.qformer.", "hearing/audio_Qformer."),
    (r"^hearing\.projector\.", "hearing/audio_llama_proj."),
    (r"^hearing\.ear\.", "audio."),
    *((ours, f"imagebind/{published}") for ours, published in IMAGEBIND_PUBLISHED),
)


@dataclass(frozen=True)
class AttentionHeads:
    """Heads of each kind of attention, which no file tells."""

    vit: int = EVA_HEADS
    qformer: int = 12
    ear: int = AUDIO_HEADS


@dataclass(frozen=True)
class VideoLlamaSizes(PromptSizes):
    """`positions` are a video's; 0 of a branch that is not used."""

    heard: int = 0
    """Prompt positions that a sound takes."""


@dataclass(frozen=True)
class VideoLlamaInputs:
    """One clip: the pieces of text, and what is seen and heard between them.

    `mel` is 8 x 1 x 128 x 204 and takes the first slot, `frames` is T x size x size x 3 (uint8) and
    takes the next; there is one piece more than there are slots.
    """

    texts: Sequence[Sequence[int]]
    frames: Tensor | None
    mel: Tensor | None


class VisionBranch(nn.Module):
    """The vision branch: tower, Q-Former for each frame, Q-Former over all frames."""

    def __init__(
        self,
        vision: Blip2VisionConfig,
        qformer: tuple[QFormerConfig, int],
        video: tuple[QFormerConfig, int],
        frames: int,
        output: int,
    ) -> None:
        """`qformer` and `video` are the two Q-Formers, each with its number of queries."""
        super().__init__()
        self.vit = EvaVit(vision)
        self.ln_vision = nn.LayerNorm(vision.hidden_size)
        (each, queries), (over, video_queries) = qformer, video
        self.queries = nn.Parameter(torch.empty(1, queries, each.width))
        self.qformer = QFormer(each)
        self.positions = nn.Embedding(frames, each.width)
        self.video_queries = nn.Parameter(torch.empty(1, video_queries, over.width))
        self.video_qformer = QFormer(over)
        self.projector = nn.Linear(over.width, output)

    def forward(self, frames: Tensor) -> Tensor:
        """T x size x size x 3, uint8 -> 32 x the language model's width."""
        pixels = normalise(frames.to(self.queries.device)).to(self.queries.dtype)
        seen = self.qformer(self.queries, self.ln_vision(self.vit(pixels)))
        placed = seen + self.positions.weight[: len(seen), None]
        found = self.video_qformer(self.video_queries, placed.flatten(0, 1)[None])
        projected: Tensor = self.projector(found[0])
        return projected


class AudioBranch(nn.Module):
    """The audio branch: ImageBind's ear for each stretch of sound, Q-Former over all of them."""

    def __init__(
        self, ear: ImageBindConfig, qformer: QFormerConfig, queries: int, clips: int, output: int
    ) -> None:
        super().__init__()
        self.ear = ImageBindAudio(ear)
        self.positions = nn.Embedding(clips, ear.output)
        self.queries = nn.Parameter(torch.empty(1, queries, qformer.width))
        self.qformer = QFormer(qformer)
        self.projector = nn.Linear(qformer.width, output)

    def forward(self, mel: Tensor) -> Tensor:
        """8 x 1 x 128 x 204 -> 8 x the language model's width."""
        heard = self.ear.scale * self.ear(mel.to(self.queries))
        found = self.qformer(self.queries, (heard + self.positions.weight[: len(heard)])[None])
        projected: Tensor = self.projector(found[0])
        return projected


class VideoLlama(nn.Module):
    """One branch or both, and the language model."""

    def __init__(
        self, seeing: VisionBranch | None, hearing: AudioBranch | None, llm: LlamaConfig
    ) -> None:
        super().__init__()
        self.seeing = seeing
        self.hearing = hearing
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls,
        llm: Path,
        placement: Placement,
        vision: Path | None = None,
        qformer: Path | None = None,
        seeing: Path | None = None,
        imagebind: Path | None = None,
        hearing: Path | None = None,
        heads: AttentionHeads | None = None,
    ) -> "VideoLlama":
        """Read the folder of Llama-2-7b-chat and the branches whose files are given, as published.

        The branch that sees is in eva_vit_g.pth, blip2_pretrained_flant5xxl.pth and
        VL_LLaMA_2_7B_Finetuned.pth, the one that hears in imagebind_huge.pth and
        AL_LLaMA_2_7B_Finetuned.pth.
        """
        heads = heads or AttentionHeads()
        config, words = read_llama(llm_folder(llm))
        parts = [words]
        eyes = ears = None
        with weightless():
            if vision and qformer and seeing:
                sizes, tower = read_eva(vision, "seeing.vit.", heads.vit)
                connector = _seeing(qformer, seeing)
                eyes = _build_seeing(sizes, connector, heads.qformer, config.hidden_size)
                parts += [tower, connector]
            if imagebind and hearing:
                connector = _hearing(imagebind, hearing)
                ears = _build_hearing(connector, heads, config.hidden_size)
                parts.append(connector)
            model = cls(eyes, ears, config)
        load_strict(model, join(*parts), placement)
        return model

    def embed(self, inputs: VideoLlamaInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        branches = ((self.hearing, inputs.mel), (self.seeing, inputs.frames))
        found = [run(given) for run, given in branches if run is not None and given is not None]
        return splice(self.llm.get_input_embeddings(), inputs.texts, found)


def read_sizes(
    llm: Path,
    vision: Path | None = None,
    qformer: Path | None = None,
    seeing: Path | None = None,
    imagebind: Path | None = None,
    hearing: Path | None = None,
) -> VideoLlamaSizes:
    """Read the sizes from the files' shapes and the language model's config.json."""
    context = llama_config(read_json(llm_folder(llm))).max_position_embeddings
    seen = heard = image = 0
    if vision and qformer and seeing:
        image = eva_image_size(vision)
        seen = _count(_seeing(qformer, seeing), "seeing.video_queries")
    if imagebind and hearing:
        heard = _count(_hearing(imagebind, hearing), "hearing.queries")
    return VideoLlamaSizes(context, seen, image, heard)


def llm_folder(llm: Path) -> Path:
    """The folder of the language model, which the hub's repository has within it."""
    within = llm / LLM_FOLDER
    return within if within.is_dir() else llm


def _seeing(qformer: Path, seeing: Path) -> Tensors:
    """The tensors between the tower and the language model."""
    first = rename(read_blip2(qformer), (*BLIP2_KEYS, (r"^", "seeing.")))
    return join(first, rename(read_tensors(file_of(seeing, SEEING_FILE), "model"), SEEING_KEYS))


def _hearing(imagebind: Path, hearing: Path) -> Tensors:
    """All of the audio branch."""
    keys = (*imagebind_keys(AUDIO), (r"^audio\.", "hearing.ear."))
    ear = rename(read_tensors(file_of(imagebind, IMAGEBIND_FILE)), keys)
    return join(ear, rename(read_tensors(file_of(hearing, HEARING_FILE), "model"), HEARING_KEYS))


def _build_seeing(
    vision: Blip2VisionConfig, tensors: Tensors, heads: int, output: int
) -> VisionBranch:
    """The branch with the sizes that the shapes of its tensors tell."""
    each, over = (
        QFormerConfig.from_tensors(tensors, f"seeing.{name}.", heads)
        for name in ("qformer", "video_qformer")
    )
    queries, video_queries, frames = (
        _count(tensors, f"seeing.{name}") for name in ("queries", "video_queries", "positions")
    )
    return VisionBranch(vision, (each, queries), (over, video_queries), frames, output)


def _build_hearing(tensors: Tensors, heads: AttentionHeads, output: int) -> AudioBranch:
    return AudioBranch(
        ImageBindConfig.from_tensors(tensors, "hearing.ear", heads.ear),
        QFormerConfig.from_tensors(tensors, "hearing.qformer.", heads.qformer),
        _count(tensors, "hearing.queries"),
        _count(tensors, "hearing.positions"),
        output,
    )


def _count(tensors: Tensors, name: str) -> int:
    """The number of queries, or of positions in a table. Raises CheckpointError without them."""
    for key, sides in ((name, 3), (f"{name}.weight", 2)):
        if key in tensors:
            return tensors[key].sides(sides)[-2]
    raise CheckpointError(
        f"the checkpoint has no {name}; are the files {BLIP2_FILE}, {SEEING_FILE} and "
        f"{HEARING_FILE}?"
    )


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Video-LLaMA with the published files, token counts and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    llm = folder / LLM_FOLDER
    names = (EVA_FILE, BLIP2_FILE, SEEING_FILE, IMAGEBIND_FILE, HEARING_FILE)
    vision, qformer, seeing, imagebind, hearing = (folder / name for name in names)
    folder.mkdir(parents=True, exist_ok=True)
    write_eva_miniature(vision, seed)
    tower, _ = read_eva(vision, "")
    width, output = tower.hidden_size, int(MINI_LLAMA2["hidden_size"])
    sizes = QFormerConfig(encoder_width=width, layers=2, width=48, ffn=64)
    over = replace(sizes, encoder_width=sizes.width, cross_attention_every=1)
    listener = replace(over, encoder_width=MINI_AUDIO.output)
    with weightless():
        model = VideoLlama(
            VisionBranch(tower, (sizes, 32), (over, 32), 32, output),
            AudioBranch(MINI_AUDIO, listener, 8, 8, output),
            llama_config(MINI_LLAMA2),
        )
    drawn = random_tensors(model, seed)
    held = {name: drawn[name] for name in drawn if not name.startswith("seeing.vit.")}
    tensors = publish(held, _PUBLISHED)
    write_llama_miniature(llm, MINI_LLAMA2, of_file("llm", tensors))
    torch.save({"model": of_file("qformer", tensors)}, qformer)
    for name, file in (("seeing", seeing), ("hearing", hearing)):
        buffer = {"video_Qformer.bert.embeddings.position_ids": torch.arange(8)[None]}
        torch.save({"model": of_file(name, tensors) | buffer, "epoch": 0}, file)
    torch.save(of_file("imagebind", tensors), imagebind)
    return {
        "llm": llm,
        "vision": vision,
        "qformer": qformer,
        "seeing": seeing,
        "imagebind": imagebind,
        "hearing": hearing,
    }
