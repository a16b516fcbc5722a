"""Ask one baseline about one clip.

    python -m runners.describe baseline=video_llava video=clip.mp4 subtitle="I'm fine."

`video`, `audio` and `subtitle` are taken as they stand, quotes and commas included; without
`audio` the video's own sound is heard, without `subtitle` none is asked about. Every other
argument is a setting of conf/config.yaml in Hydra's syntax.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from adapters.base import AUDIO, SUBTITLE, VIDEO
from baselines.errors import PrerequisiteError
from runners import cli
from runners.describing.pipeline import Pipeline, Request
from runners.folder.records import Prediction
from runners.job import Job
from runners.progress import say


@cli.command
def main() -> int:
    """The command: the description on stdout, what must be known about it on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m runners.describe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("setting", nargs="+", metavar="key=value")
    parser.add_argument("--config-dir", help="a folder with yaml files of your own, as of a sweep")
    arguments = parser.parse_args()
    given: Sequence[str] = arguments.setting
    clip, overrides = dict[str, str](), list[str]()
    for argument in given:
        key, _, value = argument.partition("=")
        if key in (VIDEO, AUDIO, SUBTITLE):
            clip[key] = value
        else:
            overrides.append(argument)
    if arguments.config_dir:
        overrides.append(_search(Path(arguments.config_dir)))
    prediction = _ask(_compose(overrides), clip)
    print(prediction.description)
    for note in prediction.notes:
        say(note)
    return cli.FINE


def _search(folder: Path) -> str:
    """What Hydra's own --config-dir comes to."""
    if not folder.is_dir():
        raise PrerequisiteError(f"--config-dir: there is no folder {folder}")
    return f"hydra.searchpath=['file://{folder.absolute()}']"


def _compose(overrides: Sequence[str]) -> Job:
    from hydra import compose, initialize_config_dir

    from runners.config import CONF, CONFIG_NAME, VERSION_BASE, register, settings_of

    register()
    with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        return Job(settings_of(compose(CONFIG_NAME, list(overrides))))


def _ask(job: Job, clip: Mapping[str, str]) -> Prediction:
    """What the job's adapter says of the clip; ClipError where it fails."""
    adapter, settings = job.adapter, job.settings
    if adapter.sees_truth:
        raise PrerequisiteError(
            f"{job.label} repeats the true labels, and a single clip has none; use runners.sweep"
        )
    request = _request(clip, adapter.modalities)
    with ExitStack() as stack:
        if job.is_dry:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            adapter = adapter.miniature(Path(folder))
        stack.callback(adapter.close)
        adapter.load(job.machine)
        pipeline = Pipeline(adapter, seed=settings.seed, batch_size=1, workers=1, strict=True)
        return next(pipeline.describe([request]))


def _request(clip: Mapping[str, str], uses: frozenset[str]) -> Request:
    """The parts of the clip that the adapter uses; the name, and with it the random stream, is
    that of the file, as in a sweep."""
    paths = {kind: Path(clip[kind]) for kind in (VIDEO, AUDIO) if kind in clip}
    for kind, path in paths.items():
        if not path.is_file():
            raise PrerequisiteError(f"{kind}: there is no file {path}")
    video, sound = paths.get(VIDEO), paths.get(AUDIO) or paths.get(VIDEO)
    file = video or sound
    return Request(
        name=file.stem if file else "clip",
        video=video if VIDEO in uses else None,
        audio=sound if AUDIO in uses else None,
        subtitle=clip.get(SUBTITLE) if SUBTITLE in uses else None,
        truth=(),
        fingerprint={},
    )


if __name__ == "__main__":
    main()
