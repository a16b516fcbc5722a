"""Random miniatures of checkpoints: small files in the published layout, for dry runs and tests.

A port builds its own modules with small sizes and writes their random tensors under the published
names. The strict loader then reads them as it reads the real ones, so the two cannot drift apart.
Language models have attention heads of 32, the smallest that vLLM takes.
"""

import io
import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ovmer.baselines.weights import Renames, renamed

# Words of the prompts and of likely answers, plus what tokenizers are known to stumble over:
# runs of blanks, line breaks, digits, other scripts.
CORPUS = """\
As an expert in the field of emotions, please focus on the facial expressions, body movements,
environment, acoustic information and subtitle content in the video to discern clues related to
the emotions of the individual. Please provide a detailed description and ultimately predict the
emotional state of the individual. The assistant gives helpful, detailed and polite answers to the
human's questions. USER: ASSISTANT: Subtitle content of this video: I can't believe it! Why now?
In the video, a woman smiles and raises her eyebrows; she seems happy, surprised, excited or glad.
In the audio, the voice of a man is low, slow and tense; he may be sad, angry, worried or afraid.
他看起来很高兴，也有一点惊讶。  0 1 2 3 4 5 6 7 8 9    +  -     *
"""


_APT = 3
"""Factor on the logits of a token that is to be written within some dozen tokens."""
_FORCE = 100
"""Factor on its embedding, which outweighs what the random layers add: it alone decides what
follows it."""


def random_tensors(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Half-precision values for every tensor of a module's state dict, in its order.

    Matrices are scaled to enlarge what passes through them a little: with less, attention is flat
    and all clips get the same answer. Vectors that scale (norms) are drawn around one, others
    around zero.
    """
    stream = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in module.state_dict().items():
        noise = torch.randn(tensor.shape, generator=stream)
        if tensor.dim() > 1:
            value = noise * 1.5 / math.sqrt(tensor[0].numel())
        else:
            value = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        tensors[name] = value.half()
    return tensors


THINKING = ("<think>", "</think>")


def end_thinking(words: Tensor, head: Tensor, end: int) -> None:
    """Let a random model write the token `end` within some dozen, and then something else.

    `words` and `head` are the rows of the vocabulary, embedded and scored (vocabulary x width).
    With this a dry run has answers that follow a thinking part, and now and then one that is cut.
    """
    words[end] = -_FORCE * head[end]
    head[end] *= _APT


def publish(tensors: Mapping[str, Tensor], table: Renames) -> dict[str, Tensor]:
    """Tensors under their published names: `table` is the inverse of the one for loading."""
    named = {renamed(name, table): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in named.items() if name is not None}


def of_file(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that were published as `name`/KEY, by their keys: what goes into one file."""
    start = f"{name}/"
    return {
        key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)
    }


def fuse(tensors: Mapping[str, Tensor], fused: str, parts: Sequence[str]) -> dict[str, Tensor]:
    """The inverse of `weights.split`: all tensors named for one of the parts, in one."""
    found = dict(tensors)
    for name in tensors:
        if f".{parts[0]}." in name:
            pieces = [found.pop(name.replace(f".{parts[0]}.", f".{part}.")) for part in parts]
            found[name.replace(f".{parts[0]}.", f".{fused}.")] = torch.cat(pieces)
    return found


def write_torch_shards(folder: Path, tensors: Mapping[str, Tensor], shards: int) -> None:
    """pytorch_model-0000N-of-0000M.bin and their index."""
    _write_shards(folder, tensors, shards, "pytorch_model", "bin", torch.save)


def write_safetensors_shards(folder: Path, tensors: Mapping[str, Tensor], shards: int) -> None:
    """model-0000N-of-0000M.safetensors and their index."""
    _write_shards(folder, tensors, shards, "model", "safetensors", save_file)


def _write_shards(
    folder: Path,
    tensors: Mapping[str, Tensor],
    shards: int,
    stem: str,
    suffix: str,
    save: Callable[[dict[str, Tensor], Path], None],
) -> None:
    names, index = list(tensors), dict[str, str]()
    size = math.ceil(len(names) / shards)
    for shard in range(shards):
        file = f"{stem}-{shard + 1:05d}-of-{shards:05d}.{suffix}"
        held = {name: tensors[name] for name in names[shard * size : (shard + 1) * size]}
        save(held, folder / file)
        index |= dict.fromkeys(held, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(
        folder / f"{stem}.{suffix}.index.json",
        {"metadata": {"total_size": total}, "weight_map": index},
    )


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_sentencepiece(file: Path, vocabulary: int = 400) -> None:
    """A small tokenizer.model with the traits of LLaMA's: BPE, bytes, blanks kept, ids 0, 1, 2."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary,
        character_coverage=0.99,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    file.write_bytes(model.getvalue())


def byte_pairs() -> list[bytes]:
    """A small vocabulary in the order of its merges: all bytes, then the beginnings of each word of
    CORPUS, which merge one after another."""
    pieces = [bytes([byte]) for byte in range(256)]
    for word in re.findall(r" ?\S+", CORPUS):
        data = word.encode()
        pieces += [data[:length] for length in range(2, len(data) + 1)]
    return list(dict.fromkeys(pieces))


def write_ranks(file: Path) -> int:
    """A small list of byte pairs in tiktoken's format; returns how many ids it ranks."""
    ranked = byte_pairs()
    lines = [f"{b64encode(piece).decode()} {rank}\n" for rank, piece in enumerate(ranked)]
    file.write_text("".join(lines), encoding="ascii")
    return len(ranked)


def write_wordpieces(file: Path, text: str = CORPUS) -> int:
    """A small vocab.txt of an uncased BERT, one piece a line; returns how many there are."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    letters = [letter for word in words for letter in word]
    pieces = [*words, *letters, *(f"##{letter}" for letter in letters)]
    lines = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)
