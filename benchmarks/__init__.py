"""Measurements of speed. They assert nothing; see `python -m benchmarks --help`."""
