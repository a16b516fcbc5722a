"""Check checkpoints: which parts are present and complete, and what the model needs.

    ovmer weights all
    ovmer weights salmonn videochat weights=/models
    ovmer weights salmonn weights=/models compare=true

Looks at the hub's cache, or below `weights`, at file lists, at the headers of safetensors files and
at the index of pickles, whose objects are never built. Nothing is downloaded. Exits with 1 where a
part is missing or refused.

settings:
  weights=FOLDER   folder with checkpoints as OWNER/NAME, as in a sweep
  compare=true     also let the model's own loader say whether it takes the files; imports torch
  json=true        print JSON
"""

import json

from tabulate import tabulate

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.checkpoints import PartStatus, baselines, compare, survey
from ovmer.runners.commands.arguments import parse


@cli.command
def main() -> int:
    """Print a row for each part."""
    given = parse(__doc__, ("weights", "compare", "json"), paths="BASELINE")
    if not given.paths:
        raise PrerequisiteError("say which baselines, or all")
    weights = given.settings.get("weights")
    found: list[PartStatus] = []
    for name, adapter in baselines([str(path) for path in given.paths]):
        of_one = list(survey(name, adapter, weights))
        if given.settings.get("compare") == "true":
            compare(of_one, adapter, weights)
        found += of_one
    if given.settings.get("json") == "true":
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
            each.verdict,
        ]
        for each in found
    ]
    heads = ["baseline", "part", "source", "GB", "tensors", "types", "verdict"]
    lines = [tabulate(rows, heads, disable_numparse=True)]
    said = [(f"{each.baseline} {each.part}", each.reason, each.notes) for each in found]
    for part, reason, notes in said:
        lines += [f"- {part}: {sentence}" for sentence in (reason, *notes) if sentence]
    return "\n".join(lines)
