"""The FSP study; `study.py` states its question."""
