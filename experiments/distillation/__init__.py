"""The distillation study; its question stands in `study.py`."""
