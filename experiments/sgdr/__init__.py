"""The SGDR study; its question stands in `study.py`."""
