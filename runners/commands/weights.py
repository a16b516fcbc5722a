"""Check checkpoints: which parts are present and complete, and what the model needs.

    ovmer weights all
    ovmer weights salmonn videochat weights=/models
    ovmer weights salmonn weights=/models compare=true
    ovmer weights salmonn hub=true compare=true

Looks at the hub's cache, or below `weights`, at file lists, at the headers of safetensors files and
at the index of pickles, whose objects are never built. Nothing is downloaded. Exits with 1 where a
part is missing or refused.

settings:
  weights=FOLDER   where checkpoints lie as OWNER/NAME, as in a sweep
  hub=true         also ask the hub about what is not here: some range requests and small files
  compare=true     also let the model's own loader say whether it takes the files; imports torch
  json=true        print JSON
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.checkpoints import PartStatus, baselines, compare, survey
from ovmer.runners.commands.arguments import parse


@cli.command
def main() -> int:
    """Print a row for each part."""
    given = parse(__doc__, ("weights", "hub", "compare", "json"), paths="BASELINE")
    if not given.paths:
        raise PrerequisiteError("say which baselines, or all")
    weights = given.settings.get("weights")
    asks_hub, compares = given.is_true("hub"), given.is_true("compare")
    as_json = given.is_true("json")
    found: list[PartStatus] = []
    for name, adapter in baselines(given.paths):
        with TemporaryDirectory(prefix="ovmer-outlines-") as folder:
            of_one = list(survey(name, adapter, weights, Path(folder) if asks_hub else None))
            if compares:
                compare(of_one, adapter)
        found += of_one
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=2))
    else:
        print(_table(found))
    return cli.FINE if all(each.is_fine for each in found) else cli.FAILED


def _table(found: list[PartStatus]) -> str:
    rows = [
        [
            each.baseline,
            each.part,
            each.source,
            "" if each.gb is None else f"{each.gb:g}",
            each.tensors or "",
            " ".join(each.types),
            each.terms or "see its page",
            each.verdict,
        ]
        for each in found
    ]
    heads = ["baseline", "part", "source", "GB", "tensors", "types", "terms", "verdict"]
    lines = [tabulate(rows, heads, disable_numparse=True)]
    said = [(f"{each.baseline} {each.part}", each.reason, each.notes) for each in found]
    for part, reason, notes in said:
        lines += [f"- {part}: {sentence}" for sentence in (reason, *notes) if sentence]
    return "\n".join(lines)
