"""Jobs from beginning to end, each going on where it stopped.

sweep.py  of_one.py                 a command line -> jobs, as Hydra composes them
jobs.py  submit.py  queue.py        all jobs of a sweep: as processes here, or as jobs of a cluster
work.py  state.py  read_ahead.py    one job: describe, extract, score; and what of it is left to do
summary.py                          the table at the end
costs.py  hint.py  hooks.py         costs; a faster engine; what is called when a run has ended
"""
