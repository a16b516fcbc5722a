"""A run on disk: all writing and reading of run folders.

run_folder.py    the folder, who may write to it, and discovery of folders
records.py       predictions and labels, one JSON object a line
run_json.py      typed run.json: identity, settings, sessions
scores_json.py   typed scores.json
exchange.py      predictions.csv and the authors' npz files
imported.py      scores of predictions that others made
identity.py      comparing what two runs were made with
readings.py      the labels of a run, one reading for each seed of the extractor
scored.py        `ovmer.score`
frames.py        run folders as data frames
provenance.py    code, packages and machine, for run.json
"""
