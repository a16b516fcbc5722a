"""What a run leaves on disk: records as they are done, and what others read.

records.py      one JSON object a line
run_folder.py   the folder, and who may write to it
provenance.py   code, packages and machine, for run.json
exchange.py     predictions.csv and the authors' npz files
"""
