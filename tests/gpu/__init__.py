"""What only a GPU can show. `python -m tests.gpu.smoke` runs all of it and prints one table."""
