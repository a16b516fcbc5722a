"""The papers' tables: our figures in their layout, beside what they print.

layouts/NAME.yaml       columns, rows, protocol and notes of one printed table
published/*.csv         the printed figures, each with where it was read
layout.py  results.py   reads both; reads run folders
table.py                our figure, its interval, the printed one, the difference, and why not
render.py  plot.py      Markdown, LaTeX, CSV; a forest plot
frame.py                a data frame
"""
