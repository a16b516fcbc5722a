"""Print a paper's table with our figures beside the printed ones.

    ovmer tables outputs layout=mer_unibench
    ovmer tables outputs/ovmerd layout=ovmer output=report

Reads run folders, finished or not, and imported predictions (ovmer score record.baseline=...).
Prints the table; writes LAYOUT.md, .tex (booktabs), .csv (one row a cell), .png (forest plot).

  layout    which table, see below
  output    folder for the files  [tables]
  formats   which of them         [md,tex,csv,png]; pdf and svg can be had too
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.papers.layout import layout_names, read_layout
from ovmer.runners.papers.results import read_results
from ovmer.runners.papers.table import PaperTable, make_table

_DEFAULTS = {"layout": "", "output": "tables", "formats": "md,tex,csv,png"}
_PLOTS = ("png", "pdf", "svg")


@cli.command
def main() -> int:
    """The command: print the table, write the files."""
    given = parse(
        __doc__, list(_DEFAULTS), paths="FOLDER", epilog=f"layouts: {', '.join(layout_names())}"
    )
    settings = _DEFAULTS | given.settings
    if not settings["layout"]:
        raise PrerequisiteError(f"say layout= and one of {', '.join(layout_names())}")
    layout = read_layout(settings["layout"])
    table = make_table(layout, read_results([Path(each) for each in given.paths or ["outputs"]]))
    from ovmer.runners.papers.ranks import with_ranks
    from ovmer.runners.papers.render import plain

    table = with_ranks(table)
    print(plain(table))
    written = write(table, Path(settings["output"]).expanduser(), settings["formats"].split(","))
    print(f"\n{', '.join(map(str, written))}")
    return cli.FINE


def write(table: PaperTable, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write the table in each of the formats; PrerequisiteError for an unknown one."""
    from ovmer.runners.papers.render import latex, markdown, tidy

    texts: Mapping[str, Callable[[PaperTable], str]] = {"md": markdown, "tex": latex, "csv": tidy}
    known = [*texts, *_PLOTS]
    for each in formats:
        if each not in known:
            raise PrerequisiteError(f"formats: there is no {each!r}; {near(each, known)}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for each in formats:
        path = folder / f"{table.layout.name}.{each}"
        if each in texts:
            path.write_text(texts[each](table), encoding="utf-8")
        else:
            from ovmer.runners.papers.plot import forest

            forest(table, path)
        paths.append(path)
    return paths
