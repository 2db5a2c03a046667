"""The distillation study; `study.py` states its question."""
