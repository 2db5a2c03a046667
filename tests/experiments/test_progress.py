"""The bar of a study: in a terminal and in a log file."""

import pytest

from experiments.common import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_shows_stage_step_and_loss(terminal, monkeypatch, capsys):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")
    with progress.shown("sgdr") as bar:
        first = capsys.readouterr().out
        assert "reading data, compiling the first programs" in first or terminal
        bar.start(10)
        bar.training("seed 0: step")
        bar.advance(2.5, 1.25)
        bar.advance(2.5, float("nan"))  # resumed steps have no loss
        bar.training("seed 1: step")
    printed = capsys.readouterr().out
    assert "seed 1: step" in printed
    if terminal:
        assert "1.250" in printed
        assert "5/10" in printed
        assert "seed 1: step (compiling)" in printed  # no step of it is done
    else:
        assert printed == "0/10 seed 0: step\n5/10 seed 1: step\n"
