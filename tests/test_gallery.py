"""The gallery of schedules: all of them, drawn."""

from kd_heuristics import schedules
from kd_heuristics.plots import schedule_gallery
from kd_heuristics.plots.schedules import GALLERY


def test_holds_every_schedule_and_is_drawn(tmp_path):
    for name in set(schedules.__all__) - {"sgdr_restarts"}:  # steps, not a schedule
        assert any(f"{name}(" in call for call in GALLERY), name
    schedule_gallery(tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").stat().st_size > 20_000
