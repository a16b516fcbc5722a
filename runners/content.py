"""Hashes of what answers are made from: the code of others, and media files."""

import ast
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})


@lru_cache(maxsize=4096)
def file_hash(path: Path, size: int, changed_ns: int) -> str:
    """Hash of a file's bytes; read once as long as size and time of change stay.

    Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=10)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def code_of_class(cls: type) -> str | None:
    """Hash of the modules that define a class and its bases, ovmer's own left out.

    None where that is all, or where there is no source.
    """
    files = dict[Path, None]()
    for each in cls.__mro__[:-1]:
        if each.__module__.partition(".")[0] not in ("ovmer", "abc", "typing", "builtins"):
            try:
                file = inspect.getsourcefile(each)
            except TypeError:
                continue
            files |= dict.fromkeys([Path(file)] if file else [])
    return code_hash(*files) if files else None


def code_hash(*files: Path) -> str:
    """Hash of scripts or modules and of what they import from beside them, or their package.

    Their location is no part of it.
    """
    found = dict[Path, None]()
    waiting = list(files)
    while waiting:
        file = waiting.pop().resolve()
        if file not in found and file.is_file():
            found[file] = None
            waiting += _imported(file)
    digest = hashlib.blake2b(digest_size=10)
    for file in sorted(found, key=lambda each: (each.name, str(each))):
        content = file.read_bytes()
        digest.update(f"{file.name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def _imported(file: Path) -> Iterator[Path]:
    """The files that a module imports from its own package or, where it is in none, its folder."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    top = file.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    package = file.relative_to(top).parts[0] if top != file.parent else None
    if package is None and _INSTALLED & set(top.parts):
        return  # beside it are other packages
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(top, alias.name.split("."), package)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
            if node.level:
                folder = file.parents[node.level - 1]
                names = [[*folder.relative_to(top).parts, *each] for each in names]
            for each in names:
                yield from _modules(top, each, package)


def _modules(top: Path, name: Sequence[str], package: str | None) -> Iterator[Path]:
    """The files below `top` that importing a dotted name runs."""
    if package is not None and name[:1] != [package]:
        return
    for length in range(1, len(name) + 1):
        path = top.joinpath(*name[:length])
        yield from (each for each in (path.with_suffix(".py"), path / "__init__.py"))
