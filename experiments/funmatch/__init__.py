"""The FunMatch study; its question stands in `study.py`."""
