from ovmer.baselines.tokenizer import BertTokenizer


def pieces(question: str, *, seen: bool, heard: bool, has_tags: bool) -> list[str]:
    """The texts of the user's message around the slots: picture, then sound."""
    tags = [tag for tag, there in (("vi", seen), ("au", heard)) if there]
    slots = [f"<{tag}_start>{_SLOT}<{tag}_end>" if has_tags else _SLOT for tag in tags]
    *before, after = "\n".join(slots).split(_SLOT)
    return [*before, f"{after}\n{question}"]


_SLOT = "\0"


def question_ids(words: BertTokenizer, question: str, most: int) -> list[int]:
    """[CLS], the ids of the question, [SEP]; of a longer one the beginning, `most` ids in all."""
    ids = words.encode(question, len(question) + 2)
    return [*ids[: most - 1], ids[-1]] if len(ids) > most else ids
