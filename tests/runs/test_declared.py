"""Claims of a TOML file and their statistics of a table: numbers and refusals."""

import json
import math
import re

import pytest

from kd_heuristics import cli, runs
from kd_heuristics.runs import declared

CLAIM = """
[{key}]
words = "it helps"
kind = "difference"
smallest_effect = 2.0
unit = "points"
statistic = "accuracy"
arm = "warmup"
minus_arm = "none"
"""
TABLE = "seed,arm,accuracy\n" + "".join(
    f"{seed},{arm},{value + seed}\n"
    for seed in (3, 1, 2, 0)
    for arm, value in (("warmup", 90.5), ("none", 20.0))
)


HELPS = CLAIM.format(key="helps")


def write(folder, table=TABLE, claims=HELPS):
    (folder / "runs.csv").write_text(table)
    (folder / "claims.toml").write_text(claims)
    return folder / "runs.csv", folder / "claims.toml"


def values(table, claims, **names):
    return declared.statistics(
        declared.read_claims(claims), declared.read_table(table), **names
    )


def test_differences_are_paired_by_seed(tmp_path):
    assert values(*write(tmp_path)) == {"helps": [70.5] * 4}


def test_a_table_without_arms_subtracts_columns_and_an_empty_cell_failed(tmp_path):
    claims = CLAIM.format(key="helps").replace('arm = "warmup"', 'minus = "other"')
    claims = claims.replace('minus_arm = "none"\n', "")
    table = "\ufeffnumber,accuracy,other\n1,5,2\n0,,2\n2,4,0.5\n"
    found = values(*write(tmp_path, table, claims), seed="number")
    assert math.isnan(found["helps"][0])
    assert found["helps"][1:] == [3.0, 3.5]


def test_the_command_prints_and_writes_the_verdicts(tmp_path, capsys):
    table, claims = write(tmp_path)
    page = tmp_path / "page.html"
    cli.main(["judge", str(table), str(claims), "--out", str(page)])
    assert "reproduced" in capsys.readouterr().out
    assert '<span class="badge good">reproduced</span>' in page.read_text()
    assert "http" not in page.read_text()


def test_results_of_a_study_are_judged_again(tmp_path, capsys):
    claim = runs.Claim(
        key="a", words="w", kind="as_good", smallest_effect=1.0, unit="nats"
    )
    judged = runs.judge_all([claim], {"a": [0.1, 0.2, 0.1, math.nan]}, looks=(2,))
    (tmp_path / "results.json").write_text(json.dumps({"claims": judged}))
    stated, found = declared.read_results(tmp_path / "results.json")
    assert stated == (claim,)
    assert found["a"][:3] == [0.1, 0.2, 0.1]
    assert math.isnan(found["a"][3])
    cli.main(["judge", str(tmp_path / "results.json"), "--out", "None"])
    assert "inconclusive" in capsys.readouterr().out  # a seed failed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("claims", "kind =", "knd ="),
            "claim 'helps'.*field 'knd'; did you mean 'kind'",
        ),
        (("claims", '"difference"', '"differenc"'), "did you mean 'difference'"),
        (("claims", "= 2.0", "= 0"), "smallest_effect must be positive"),
        (("claims", "= 2.0", '= "2"'), "'smallest_effect' has the wrong type"),
        (("claims", '"points"', "3"), "'unit' has the wrong type, got 3"),
        (("claims", "= 2.0", "= -1.0"), "smallest_effect must be positive"),
        (("claims", "= 2.0", '= 2.0\ntrainings = "a"'), "field 'trainings'"),
        (("claims", 'unit = "points"\n', ""), "the field 'unit' is missing"),
        (("claims", CLAIM.format(key="helps"), "x = 1"), "must be a table of fields"),
        (("claims", CLAIM.format(key="helps"), "looks = [4]"), "declares no claim"),
        (("claims", "\n[helps]", 'looks = [4, "8"]\n[helps]'), "list of integers"),
        (("claims", "\n[helps]", "looks = [8, 4]\n[helps]"), "looks must be ascending"),
        (("claims", "[helps]", "[helps"), "cannot be read"),
        (("claims", '"warmup"', '"warmupp"'), "'warmupp'; did you mean 'warmup'"),
        (("claims", '"accuracy"', '"acuracy"'), "'acuracy'; did you mean 'accuracy'"),
        (("claims", 'arm = "warmup"\nminus_arm = "none"\n', ""), "name an arm"),
        (("table", "seed,arm", "sed,arm"), "column 'seed'; did you mean 'sed'"),
        (("table", "3,warmup,93.5\n", ""), r"the seeds \[3\] have one of the two"),
        (("table", "93.5", "93,5"), "line 2 of .* has 4 cells, the header 3"),
        (("table", "93.5", "high"), "must hold a number, got 'high'"),
        (("table", "3,warmup", "3.5,warmup"), "a seed must be an integer, got '3.5'"),
        (("table", "2,none", "1,none"), "two rows have the seed 1 of arm 'none'"),
        (("table", TABLE, "seed,arm,accuracy\n"), "at least one row"),
    ],
)
def test_bad_input(tmp_path, capsys, change, words):
    which, old, new = change
    texts = {"table": TABLE, "claims": CLAIM.format(key="helps")}
    assert old in texts[which]
    texts[which] = texts[which].replace(old, new, 1)
    table, claims = write(tmp_path, **texts)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["judge", str(table), str(claims)])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()

    assert re.search(words, line), line


def test_one_seed_is_a_preview(tmp_path, capsys):
    rows = TABLE.splitlines()
    one = [rows[0], *(row for row in rows if row.startswith("0,"))]
    table, claims = write(tmp_path, "\n".join(one))
    page = tmp_path / "page.html"
    cli.main(["judge", str(table), str(claims), "--out", str(page)])
    assert "preview" in capsys.readouterr().out
    assert "reproduced</span>" not in page.read_text()


def test_failed_seeds_of_a_study_stay_failed(tmp_path):
    claim = runs.Claim(
        key="a", words="w", kind="as_good", smallest_effect=1.0, unit="nats"
    )
    failed = {"a": [False, True, False]}
    judged = runs.judge_all([claim], {"a": [0.1, 0.2, 0.1]}, looks=(3,), failed=failed)
    (tmp_path / "results.json").write_text(json.dumps({"claims": judged}))
    _, found = declared.read_results(tmp_path / "results.json")
    assert found["a"][::2] == [0.1, 0.1]
    assert math.isnan(found["a"][1])


def test_other_usage(tmp_path, capsys):
    table, claims = write(tmp_path)
    for arguments, words in (
        ([str(table)], "a table needs claims"),
        ([str(tmp_path / "no.csv"), str(claims)], "cannot be read"),
        ([str(table), str(claims), "--level", "1"], "--level must be between"),
        ([str(tmp_path / "results.json")], "holds no claims of this version"),
        ([str(tmp_path / "results.json"), str(claims)], "leave out"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["judge", *arguments])
        assert stopped.value.code == 2
        assert words in capsys.readouterr().err
