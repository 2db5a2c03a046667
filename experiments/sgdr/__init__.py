"""The SGDR study; `study.py` states its question."""
