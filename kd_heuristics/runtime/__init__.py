"""Processes, devices, files, compilation and argument checks."""
