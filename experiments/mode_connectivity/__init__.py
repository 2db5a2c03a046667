"""The mode connectivity study; its question stands in `study.py`."""
