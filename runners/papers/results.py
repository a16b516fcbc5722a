"""Run folders as the tables read them: their figures, and how they were made.

Our own runs and imported predictions (`ovmer score record.baseline=...`) are read alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovmer.runners.folder.run_folder import RunFolder, read_folders
from ovmer.runners.folder.run_json import RunInfo
from ovmer.runners.folder.scores_json import StoredScores


@dataclass(frozen=True)
class PaperRun:
    """One run folder."""

    folder: Path
    info: RunInfo
    scored: tuple[StoredScores, ...]

    def asked(self, scored: StoredScores) -> str | None:
        """Use of the subtitle: prompt, merge or none; None if the run does not say."""
        if self.info.imported is not None:
            return self.info.imported.get("subtitle")
        if scored.is_merged:
            return "merge"
        return str(self.info.identity.get("subtitle", "none"))


def read_results(paths: Sequence[Path]) -> list[PaperRun]:
    """Read every run folder at or below the paths, in the order of their names.

    A folder that cannot be read is left out with a sentence. Raises PrerequisiteError where a path
    is no folder, and if there is no run folder.
    """
    return read_folders(paths, read_result)


def read_result(folder: RunFolder) -> PaperRun:
    return PaperRun(folder.path, folder.info(), tuple(folder.read_scores().values()))
