"""Jobs from beginning to end, each going on where it stopped.

jobs.py  submit.py   all jobs of a sweep: as processes here, or as jobs of a cluster
work.py  state.py    one job: describe, extract, score; and what of it is left to do
comparison.py        the table at the end
"""
