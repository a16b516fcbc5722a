"""Tasks: what a model is asked, how its reply is read, and which figures follow.

parsers.py     reply -> class, by the rule of each benchmark's authors
family.py      columns whose sums give the figures: closed_set.py, graded.py, regression.py
metric.py      the replies of a run, read under several protocols at once
task.py        the keys of conf/task/*.yaml and the question for one clip
"""
