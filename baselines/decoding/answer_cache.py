"""A cache of answers to text prompts, across runs and sweeps: one SQLite file.

An answer is kept under the hash of everything that shapes it: engine, model, revision, sampling,
seed and the exact prompt. It is committed as soon as it is there, so a process that is killed
loses none. Several processes may read and write at once; where two ask the same thing at the same
moment, the first answer is kept and both use it. On a network disk the file is kept in SQLite's
older, slower journal mode, because write-ahead logs do not work between machines.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.errors import PrerequisiteError

_FILE = "answers.sqlite"
_NETWORK_DISKS = frozenset("nfs nfs4 cifs smb3 lustre gpfs beegfs ceph afs fuse.sshfs 9p".split())
_WAIT_SECONDS = 60.0
_KEYS_A_QUERY = 500  # SQLite takes at least 999 variables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, reply TEXT NOT NULL, is_cut INTEGER NOT NULL,
    prompt_tokens INTEGER, new_tokens INTEGER, asker TEXT NOT NULL
) WITHOUT ROWID
"""
_FIND = "SELECT key, reply, is_cut, prompt_tokens, new_tokens FROM answers WHERE key IN ({})"
_KEEP = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)"


Question = tuple[str, int]
"""A prompt, and where its random stream starts (0 in greedy decoding)."""


class AnswerCache:
    """The answers of one asker: a model behind an engine, under one sampling setting."""

    def __init__(self, folder: Path, asker: Mapping[str, Any]) -> None:
        """Open (or make) the file in `folder`.

        Raises PrerequisiteError where it cannot be opened or is something else.
        """
        self._path = folder / _FILE
        self._asker = json.dumps(asker, sort_keys=True, ensure_ascii=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
            try:
                journal = "DELETE" if _on_network_disk(folder) else "WAL"
                self._file.execute(f"PRAGMA journal_mode={journal}")
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute(_SCHEMA)
            except BaseException:
                self._file.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise self._problem(error) from error

    def find(self, questions: Sequence[Question]) -> list[Generated | None]:
        """The known answer to each question, or None."""
        keys = [self._key(question) for question in questions]
        known: dict[bytes, Generated] = {}
        try:
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                rows = self._file.execute(_FIND.format(",".join("?" * len(some))), some)
                for key, text, is_cut, prompt_tokens, new_tokens in rows:
                    known[key] = Generated(text, (), prompt_tokens, new_tokens, is_cut=bool(is_cut))
        except sqlite3.Error as error:
            raise self._problem(error) from error
        return [known.get(key) for key in keys]

    def keep(self, question: Question, reply: Generated) -> Generated:
        """Keep an answer, without its ids and thinking; returns the stored one, which may be
        another process's."""
        reply = replace(reply, ids=(), thinking="")
        row = (
            self._key(question),
            reply.text,
            reply.is_cut,
            reply.prompt_tokens,
            reply.new_tokens,
            self._asker,
        )
        try:
            is_first = self._file.execute(_KEEP, row).rowcount == 1
        except sqlite3.Error as error:
            raise self._problem(error) from error
        return reply if is_first else self.find([question])[0] or reply

    def _key(self, question: Question) -> bytes:
        prompt, seed = question
        whole = f"{self._asker}\n{seed}\n{prompt}"  # only the last has line ends
        return hashlib.blake2b(whole.encode("utf-8", "replace"), digest_size=16).digest()

    def _problem(self, error: Exception) -> PrerequisiteError:
        return PrerequisiteError(
            f"the cache of answers {self._path} cannot be used ({error}); repair or remove it, or "
            "name another folder with extractor.cache=FOLDER"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()


def _on_network_disk(folder: Path) -> bool:
    """Whether `folder` is on a network file system (Linux)."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    resolved = folder.resolve()
    # The innermost mount holds; of several on one point, the one that was mounted last.
    around = [each for each in reversed(mounts) if resolved.is_relative_to(each[1])]
    return bool(around) and max(around, key=lambda each: len(each[1]))[2] in _NETWORK_DISKS
