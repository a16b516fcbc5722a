"""Clips -> descriptions, in this process or by the workers of a Ray cluster.

pipeline.py  speed.py          batches of clips through one adapter; how fast, and what held it up
feed.py                        what a pipeline is made of, in a form that travels
launchers.py                   where pipelines run
ray_workers.py  ray_cluster.py what launcher=ray does
"""
