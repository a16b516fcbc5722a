"""MkDocs: the start page is the README; links to other files outside docs/ become their names."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./[^)]+|[A-Z]+\.(?:md|cff))\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs with the text of each page; returns what is rendered."""
    if page.file.src_uri == "index.md":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        markdown = readme.replace("](docs/", "](")
    return OUTSIDE.sub(r"\1", markdown.replace("](../README.md", "](index.md"))
