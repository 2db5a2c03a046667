"""Measured against the systems that one would take instead, in one run."""
