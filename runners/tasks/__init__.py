"""Tasks: the question to a model, the reading of its reply, and the figures.

parsers.py     reply -> class, by the rule of each benchmark's authors
readers.py     reply -> grade, number or set of labels
family.py      columns whose sums give the figures: closed_set.py, graded.py, regression.py
metric.py      the replies of a run, read under several protocols at once
task.py        the keys of conf/task/*.yaml and the question for one clip
"""
