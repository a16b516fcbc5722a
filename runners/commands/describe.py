"""Ask one baseline about one clip.

    ovmer describe baseline=video_llava video=clip.mp4 subtitle="I'm fine."

`frames=FOLDER` writes there what the model was shown, one image a frame.

`video`, `audio` and `subtitle` are taken as they stand, quotes and commas included; without
`audio` the video's own sound is heard, without `subtitle` none is asked about. Every other
argument is a setting of conf/config.yaml in Hydra's syntax.
"""

from pathlib import Path

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.config import settings_from_overrides
from ovmer.runners.describing.baseline import Baseline, existing_paths
from ovmer.runners.job import Job
from ovmer.runners.progress import say


@cli.command
def main() -> int:
    """Print the description on stdout, notes about it on stderr."""
    given = parse(__doc__, (VIDEO, AUDIO, SUBTITLE, "frames"), overrides=None)
    folder = given.settings.pop("frames", None)
    existing_paths(given.settings)  # before the model is loaded
    with Baseline(Job(settings_from_overrides(given.overrides))) as model:
        prediction = model.ask(**given.settings, frames=None if folder is None else Path(folder))
    print(prediction.description)
    for note in prediction.notes:
        say(note)
    return cli.FINE
