"""Clips -> descriptions, in this process or by the workers of a Ray cluster.

requests.py  inputs.py         clips as the adapter gets them; `inputs=` leaves some media out
pipeline.py  failures.py       batches of clips through one adapter; errors -> records
speed.py                       clips per second, and which stage limits it
pipeline_settings.py           settings of a pipeline, sent to the process that runs it
launchers.py                   where pipelines run
ray_workers.py  ray_actor.py   what launcher=ray does: the driver, a worker
"""
