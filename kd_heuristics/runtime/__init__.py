"""The machine's affairs: processes, devices, files, compilation, argument checks."""
