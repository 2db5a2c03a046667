"""The FSP study; its question stands in `study.py`."""
