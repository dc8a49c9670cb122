"""The parts of scripts/benchmark.py: cases, weights in each library's layout, workers, and the report."""
