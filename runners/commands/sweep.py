"""Describe, extract and score: one baseline, or a sweep over several.

    ovmer sweep baseline=lexicon
    ovmer sweep -m baseline=random,lexicon,video_llava dry_run=true

Hydra composes the jobs; running them is ours (runners/sweeping/): as processes here, or as jobs of
a cluster.
"""

import sys

from ovmer.runners import cli
from ovmer.runners.commands.report import write_report
from ovmer.runners.sweeping.sweep import compose


@cli.command
def main() -> int:
    """The command: compose the jobs, run them, print the table."""
    composed = compose(sys.argv[1:])
    if not composed.jobs:
        return cli.FINE
    from ovmer.runners.sweeping.jobs import (
        run_jobs,  # not before: --help need not wait for what runs a job
    )

    status = run_jobs(composed.jobs, composed.launcher)
    if composed.jobs[0].settings.estimate:  # nothing was run
        return status
    own = [job.folder.parent for job in composed.jobs if job.settings.clips]
    for folder in dict.fromkeys(map(str, own)):
        write_report([folder])
    for outputs, experiment in sorted(composed.experiments):
        print(f"the paper's table: ovmer tables {outputs} layout={experiment}")
    return status
