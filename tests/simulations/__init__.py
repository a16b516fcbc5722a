"""By-hand simulations of the intervals and tests; docs/statistics.md quotes their figures.

    python -m tests.simulations.coverage
    python -m tests.simulations.boards
    python -m tests.simulations.pairs
    python -m tests.simulations.clusters
    python -m tests.simulations.scale

Each takes some minutes on one core, prints a table and fails where a figure is out of its bounds.
"""
