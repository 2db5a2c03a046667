"""The words of errors that a user's own code raises."""

import runpy

import pytest

from kd_heuristics.runtime.errors import InputError, checking_input


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages", "own"])
def test_errors_name_the_users_own_lines_alone(tmp_path, folder):
    """Libraries may lie anywhere: in a home folder, a venv, or the system's."""
    file = tmp_path / folder / "nets.py"
    file.parent.mkdir()
    file.write_text("def make():\n    raise ValueError('no')\n")
    make = runpy.run_path(str(file))["make"]
    with pytest.raises(InputError) as raised, checking_input():
        make()
    own = f", in {file}, line 2" if folder == "own" else f", in {__file__}, line 18"
    assert str(raised.value) == f"no{own}"
