"""Text to ids and back, with a SentencePiece model made on the spot."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer as Theirs

from ovmer.baselines.errors import CheckpointError, PrerequisiteError
from ovmer.baselines.miniature import write_sentencepiece, write_wordpieces
from ovmer.baselines.tokenizer import BertTokenizer, LlamaTokenizer, fit


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> LlamaTokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    write_sentencepiece(file)
    return LlamaTokenizer(file)


def test_the_control_tokens_of_llama(tokenizer: LlamaTokenizer) -> None:
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (1, 2, (2,))


def test_a_text_starts_with_a_blank_of_its_own(tokenizer: LlamaTokenizer) -> None:
    video, between, double = (tokenizer.encode(text) for text in ("video", " ", "   "))
    assert tokenizer.encode("a video")[-1:] == video  # the piece is "▁video"
    assert len(between) == 1  # "▁▁": Video-LLaVA's separator
    assert len(double) == 1  # "▁▁▁▁"
    assert tokenizer.encode("") == []


def test_line_breaks_and_unknown_characters_become_bytes(tokenizer: LlamaTokenizer) -> None:
    first_byte = 3
    assert tokenizer.encode("\n")[-1] == first_byte + 0x0A
    assert tokenizer.encode("é")[-2:] == [first_byte + byte for byte in "é".encode()]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_text_survives_the_round_trip(tokenizer: LlamaTokenizer, text: str) -> None:
    if "▁" not in text:  # SentencePiece's own sign for a blank
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["</s>", "<s> <unk>", "a</s>b", "<0x0A>", "<image> <video>"])
def test_control_tokens_cannot_be_written(tokenizer: LlamaTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.decode(ids) == text


def test_decoding_leaves_out_control_tokens_and_unknown_ids(tokenizer: LlamaTokenizer) -> None:
    ids = tokenizer.encode("the video")
    assert tokenizer.decode([0, 1, *ids, 2, len(tokenizer), -1]) == "the video"


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.model"):
        LlamaTokenizer(file)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is half downloaded or no Sent"):
        LlamaTokenizer(file)


@given(st.text("ab ", max_size=60), st.integers(0, 40))
def test_fit_keeps_the_longest_beginning_that_fits(text: str, room: int) -> None:
    def count(words: str) -> int:
        return 10 + len(words)

    kept, cut = fit(text, 10 + room, count)
    assert kept == text[:room]
    assert cut == len(text) - len(kept)


def test_fit_refuses_a_prompt_that_is_too_long_by_itself() -> None:
    with pytest.raises(PrerequisiteError, match=r"takes 12 of the 11 tokens.*max_new_tokens"):
        fit("hello", 11, lambda words: 12 + len(words))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    write_wordpieces(file)
    return file


@pytest.fixture(scope="module")
def ours(pieces: Path) -> BertTokenizer:
    return BertTokenizer(pieces)


@pytest.fixture(scope="module")
def theirs(pieces: Path) -> Theirs:
    return Theirs(str(pieces), truncation_side="left")


@given(text=st.text(max_size=60) | st.sampled_from(["I can't believe it!", "Café, 他看起来很高兴"]))
def test_word_pieces_are_those_of_transformers(
    ours: BertTokenizer, theirs: Theirs, text: str
) -> None:
    for most in (12, 256):
        assert ours.encode(text, most) == theirs.encode(
            text, truncation=True, max_length=most, split_special_tokens=True
        )


def test_a_long_text_loses_its_start(pieces: Path) -> None:
    tokenizer = BertTokenizer(pieces)
    start, *words, end = tokenizer.encode("Why now? Please provide a detailed description.", 256)
    assert tokenizer.encode("Why now? Please provide a detailed description.", 5) == [
        start,
        *words[-3:],
        end,
    ]
    assert tokenizer.encode("", 5) == [start, end]


def test_control_tokens_of_bert_are_words(pieces: Path) -> None:
    tokenizer = BertTokenizer(pieces)
    start, *words, end = tokenizer.encode("[SEP] [CLS] [PAD]", 256)
    assert not {0, start, end} & set(words)
    assert max(words) < len(tokenizer)


def test_a_folder_without_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no vocab\.txt"):
        BertTokenizer(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text("just\nwords\n")
    with pytest.raises(CheckpointError, match=r"lacks \[UNK\], \[CLS\], \[SEP\]"):
        BertTokenizer(tmp_path / "vocab.txt")


def test_a_line_separator_of_unicode_is_a_piece_of_bert(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2028", "\x85", "happy"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(tmp_path / "vocab.txt")
    assert len(tokenizer) == 7
    assert tokenizer.encode("happy", 8) == [2, 6, 3]


def test_more_pieces_than_the_configuration_says_are_refused(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "happy"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"vocab_size": 4}')
    with pytest.raises(CheckpointError, match=r"vocab\.txt has 5 pieces but .* says 4"):
        BertTokenizer(tmp_path / "vocab.txt")
