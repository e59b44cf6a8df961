import argparse
import json
import re
import subprocess
import sys

import pytest

from orbit_snn.tools import benchmark, peers


def run(*arguments):
    command = [sys.executable, benchmark.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def in_process(monkeypatch):
    """Measures in this process, with the threads that it has."""
    from orbit_snn.tools import benchmark_cases

    def attempt(what, cases, size, options):
        asked = {"only": what, "cases": cases, "sizes": [size]}
        return benchmark.measure(argparse.Namespace(**{**vars(options), **asked}))

    monkeypatch.setattr(benchmark, "attempt", attempt)
    for module in (peers, benchmark_cases):
        monkeypatch.setattr(module, "limit_threads", lambda threads: None)


def test_a_row_for_every_case(tmp_path):
    rows_file = tmp_path / "rows.json"
    done = run(
        "--sizes=S",
        "--size_override=4,10,5,8,3",
        "--cases=bptt,autodiff",
        "--peers=norse",
        f"--peer_python={tmp_path}/missing",
        "--threads=1",
        "--repeats=1",
        f"--json={rows_file}",
    )
    assert done.returncode == 0, done.stderr
    assert "norse left out" in done.stdout and "fastest" in done.stdout
    rows = json.loads(rows_file.read_text())
    assert [(row["case"], row["size"]) for row in rows] == [("bptt", "S"), ("autodiff", "S")]
    for row in rows:
        assert tuple(row) == benchmark.KEYS
        assert row["threads"] == 1 and row["device"] == "cpu"
        assert min(row["train_ms"], row["infer_ms"], row["cpu_ms"], row["ratio_to_autodiff"]) > 0
        assert row["peak_mb_over_base"] is not None
    own, theirs = re.findall(r"(?:bptt|autodiff) (\d\.\d+)", done.stdout)
    assert float(own) == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.parametrize(
    "argument, meant",
    [("--cases=bpttt", "bptt"), ("--sizes=xl", "XL"), ("--peers=snntorhc", "snntorch")],
)
def test_an_unknown_name_gets_one_line(capsys, argument, meant):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main([argument])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"Did you mean `{meant}`?" in said


@pytest.mark.parametrize(
    "argument",
    ["--threads=0", "--threads=x", "--repeats=0", "--size_override=1,2", "--json=/nowhere/x.json"],
)
def test_a_bad_value_gets_one_line(capsys, argument):
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse_arguments([argument])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_e_prop(tmp_path, capsys, in_process):
    """A row for each mode, all with the same loss, and the memory of two lengths."""
    rows_file = tmp_path / "rows.json"
    arguments = [
        "--sizes=S",
        "--size_override=2,10,5,8,3",
        "--cases=eprop",
        "--peers=none",
        "--threads=1",
        "--repeats=1",
        "--chunk=4",
        f"--json={rows_file}",
    ]
    assert benchmark.main(arguments) == 0
    said = capsys.readouterr().out
    rows = {row["case"]: row for row in json.loads(rows_file.read_text())}
    modes = [f"eprop_{mode}" for mode in ("bptt", "factored", "chunked", "stepwise")]
    assert list(rows) == [*modes, "eprop_chunked_10", "eprop_chunked_1000"]
    assert all(rows[mode]["train_ms"] > 0 for mode in modes)
    assert all(rows[f"eprop_chunked_{n}"]["peak_mb_over_base"] is not None for n in (10, 1000))
    losses = {float(x) for x in re.findall(r"loss (\d+\.\d+)", said)}
    assert len(losses) >= 1 and max(losses) - min(losses) < 1e-4
    assert "times as fast as stepwise" in said


def test_every_name_has_a_case():
    from orbit_snn.tools import benchmark_cases

    names = {*benchmark.CASES, *benchmark.OPTIONAL_CASES} - {*benchmark.SPECIAL}
    assert names == set(benchmark_cases.CASES)
    assert set(peers.SIZES) == {"S", "M", "L", "XL"}
