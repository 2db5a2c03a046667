"""Benchmarks against alternative systems, measured in the same run."""
