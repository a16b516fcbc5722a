"""Names of run folders, from words of any kind."""

import hashlib
import re


def file_word(text: str) -> str:
    """`text` as part of a file name, of 40 characters at most."""
    word = re.sub(r"(?:[^\w.+]|_)+", "_", text).strip("_.") or "_"
    return shortened(word, 40, whole=text)


def shortened(name: str, longest: int, whole: str) -> str:
    """`name`, its end replaced by a hash of `whole` where it is too long."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 8]}_{hashlib.blake2b(whole.encode(), digest_size=3).hexdigest()}"
