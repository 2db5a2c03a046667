"""The warmup study; its question stands in `study.py`."""
