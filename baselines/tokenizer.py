"""Text <-> token ids, with text kept apart from control tokens.

`encode` reads its argument as plain words: a subtitle that spells `</s>` or `<image>` becomes the
pieces of those characters, never the control token. Whoever builds a prompt puts control ids
between the encoded pieces by hand.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ovmer.baselines.errors import CheckpointError, PrerequisiteError

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers, of 2023 to 2.5, split text into words, within which byte pairs merge."""


class Tokenizer(Protocol):
    """The tokenizer's interface for prompts and decoding; safe to call from any thread."""

    bos_id: int
    eos_id: int
    stop_ids: tuple[int, ...]
    """Any of these ends an answer; `eos_id` is one of them."""

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, with neither a start nor an end token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens are left out."""
        ...


class LlamaTokenizer:
    """SentencePiece, as defined by the `tokenizer.model` of LLaMA, Vicuna and the like.

    Gives the ids of transformers' slow LlamaTokenizer on text without control tokens: a blank is
    put before the text, blanks and line breaks are kept, unknown characters become bytes. Each call
    is a text of its own, so a prompt that upstream encodes in pieces is encoded in the same pieces
    here.
    """

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        if not file.is_file():
            raise CheckpointError(f"{file.parent} has no {file.name}; is it the right folder?")
        try:
            self._pieces = SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise CheckpointError(
                f"{file} is half downloaded or no SentencePiece model; fetch it again"
            ) from error
        self.bos_id: int = self._pieces.bos_id()
        self.eos_id: int = self._pieces.eos_id()
        self.stop_ids: tuple[int, ...] = (self.eos_id,)

    def __len__(self) -> int:
        return int(self._pieces.vocab_size())

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, with neither a start nor an end token."""
        return list(self._pieces.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens and ids beyond the vocabulary are left out."""
        pieces = self._pieces
        known = [i for i in ids if 0 <= i < len(self)]
        return str(
            pieces.decode([i for i in known if not (pieces.is_control(i) or pieces.is_unknown(i))])
        )


class BertTokenizer:
    """WordPiece, as the `vocab.txt` of an uncased BERT defines it.

    Gives the ids of transformers' BertTokenizer on text without control tokens, which here are the
    words that they spell.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as Pieces
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        if not file.is_file():
            raise CheckpointError(f"{file.parent} has no {file.name}; is it the right folder?")
        # Not splitlines(), which would part pieces that are a line separator of Unicode.
        lines = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
        vocabulary = {piece: number for number, piece in enumerate(lines)}
        if lost := [name for name in ("[UNK]", "[CLS]", "[SEP]") if name not in vocabulary]:
            raise CheckpointError(
                f"{file} lacks {', '.join(lost)}; is it the vocabulary of a BERT?"
            )
        if (most := _words_of(file.parent / "config.json")) is not None and len(lines) > most:
            raise CheckpointError(
                f"{file} has {len(lines)} pieces but config.json beside it says {most}; fetch both "
                "again"
            )
        self._pieces = Pieces(WordPiece(vocabulary, unk_token="[UNK]"))
        self._pieces.normalizer = BertNormalizer(lowercase=True)
        self._pieces.pre_tokenizer = BertPreTokenizer()
        self._start, self._end = vocabulary["[CLS]"], vocabulary["[SEP]"]

    def __len__(self) -> int:
        return int(self._pieces.get_vocab_size())

    def encode(self, text: str, most: int) -> list[int]:
        """[CLS], the ids of plain text, [SEP]: `most` of them, so a long text loses its start."""
        ids = self._pieces.encode(text, add_special_tokens=False).ids
        return [self._start, *ids[max(0, len(ids) - most + 2) :], self._end]


def _words_of(config: Path) -> int | None:
    """The number of words by a config.json; None where it or the number is not there."""
    try:
        count = json.loads(config.read_text(encoding="utf-8")).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None
    return count if isinstance(count, int) else None


def fit(text: str, limit: int, count: Callable[[str], int]) -> tuple[str, int]:
    """The longest beginning of `text` with which a prompt stays within `limit` tokens.

    `count` is the number of tokens of the whole prompt with a given text in it. Returns the text
    and how many tokens were cut off. Raises PrerequisiteError where even an empty text is too long.
    """
    full = count(text)
    if full <= limit:
        return text, 0
    if count("") > limit:
        raise PrerequisiteError(
            f"the prompt alone takes {count('')} of the {limit} tokens that the context leaves it; "
            "lower max_new_tokens of the preset, e.g. baseline.generation.paper.max_new_tokens"
        )
    low, high = 0, len(text)  # `low` characters fit, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        if count(text[:middle]) <= limit:
            low = middle
        else:
            high = middle
    return text[:low], full - count(text[:low])
