"""`attnflow bench solver`: its tables, its competitors, and what it skips."""

import math
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch

from attnflow import layered_network, maximum_flow
from attnflow.cli import main
from attnflow.cli.bench import SECTIONS, markdown, runner, scaling, timing
from attnflow.cli.bench.capacities import Models
from attnflow.cli.bench.comparisons import TimeLimit, status_of
from attnflow.cli.bench.competitors import (
    clarabel_flow,
    igraph_network,
    igraph_value,
    pruned_circulation,
)
from attnflow.cli.bench.memory import solve_bytes
from attnflow.cli.bench.section import Section, Settings, Skipped, require
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.versions import installed_version


@pytest.fixture
def bench(capsys):
    """Runs `attnflow bench solver`; what it prints, and its progress."""

    def run(*arguments):
        assert main(["bench", "solver", *map(str, arguments)]) == 0
        return capsys.readouterr()

    return run


def networks():
    """Small `(layers, t, t)` capacities: dense, one live row, scattered with dead ends, tiny."""
    generator = torch.Generator().manual_seed(3)
    scattered = torch.rand(4, 6, 6, generator=generator)
    scattered *= torch.rand(4, 6, 6, generator=generator) < 0.5
    return (
        attention_capacities((1, 3, 5, 5), one_live_row=False)[0],
        attention_capacities((1, 2, 7, 7))[0],
        scattered,
        1e-6 * attention_capacities((1, 3, 4, 4), causal=True)[0],
    )


# Tables


def test_numbers_have_three_digits():
    shown = [markdown.number(x) for x in (0.012345, 12.345, 12345.6, 1.2e7, 12345, "a")]
    assert shown == ["0.0123", "12.3", "12346", "1.2e+07", "12345", "a"]


def test_a_ratio_may_be_a_lower_bound():
    assert markdown.ratio(31.4) == "31.4x"
    assert markdown.ratio(3.0) == "3x"
    assert markdown.ratio(31.4, is_bound=True) == "> 31.4x"


def test_a_table_is_markdown_with_as_many_cells_in_every_row():
    section = Section("Title", "Note.", ("t", "L", "s"), [], measure=tuple)
    *_, names, rule = markdown.header(section).splitlines()
    wider = Section("", "", (*section.columns, "more"), [], measure=tuple)
    rows = [markdown.row(section, (8, 6, 0.5)), markdown.row(section, (8, 6, "skipped: no"))]
    rows.append(markdown.row(wider, (8, 6, "skipped")))
    assert rows == ["| 8 | 6 | 0.5 |", "| 8 | 6 | skipped: no |", "| 8 | 6 | skipped |  |"]
    assert names == "| t | L | s |" and rule == "|---|---|---|"


def test_the_machine_names_kernels_and_versions():
    said = markdown.machine()
    assert f"torch {version('torch')}" in said and "kernels: compiled" in said
    assert installed_version("no-such-library") == "not installed"


# Timing


def test_the_exponent_of_a_power_law_is_found():
    sizes = [32, 64, 128, 256]
    assert timing.exponent(sizes, [3e-7 * t**2.25 for t in sizes]) == pytest.approx(2.25)
    measured = {t: (t / 512) ** (2 if t <= 512 else 3.5) for t in (128, 256, 512, 1024, 2048)}
    said = scaling.exponents(measured)
    assert "up to 512 2;" in said
    assert "beyond 512 3.5." in said
    assert "goal" not in said
    assert "beyond 512 not measured" in scaling.exponents({64: 1.0, 128: 2.0})


def test_the_fastest_run_after_the_first_counts(monkeypatch):
    def clocked(*durations):
        ticks = [0.0]
        for seconds in durations:
            ticks += [ticks[-1] + seconds] * 2
        monkeypatch.setattr(timing.time, "perf_counter", iter(ticks).__next__)
        return timing.timed(lambda: "done", 3)[1]

    assert clocked(0.1, 3.0, 2.0, 4.0) == pytest.approx(2.0)
    assert clocked(1.0, 31.0) == pytest.approx(31.0)
    assert clocked(31.0) == pytest.approx(31.0)


# Competitors


@pytest.mark.parametrize("case", range(4))
def test_the_sparse_program_has_our_flow(case):
    capacities = networks()[case]
    flow = maximum_flow(capacities[None])
    mu, value = flow.mu.item(), flow.value.item()
    status, found = clarabel_flow(pruned_circulation(capacities), mu, value, 60.0)
    assert status in ("optimal", "optimal_inaccurate")
    assert abs(found - flow.edges[0].numpy()).max() < 2e-4 * value


@pytest.mark.parametrize("case", range(4))
def test_the_exact_value_lies_within_our_gap(case):
    capacities = networks()[case]
    flow, network = maximum_flow(capacities[None]), pruned_circulation(capacities)
    exact = igraph_value(network, *igraph_network(network))
    assert flow.value.item() < exact < flow.upper_bound.item() * (1 + 1e-12)
    total = layered_network(capacities[None]).capacities.sum((2, 3)).amin().item()
    assert exact - flow.value.item() <= 1e-2 * total


def test_a_circulation_has_no_dead_ends():
    capacities = torch.zeros(2, 3, 3)
    capacities[1, 0, 1] = capacities[0, 1, 2] = capacities[0, 0, 0] = 1
    network = pruned_circulation(capacities)
    assert network.tails.tolist() == [4, 6, 9, 2, 10]
    assert network.heads.tolist() == [2, 4, 6, 10, 9]
    assert network.capacities.tolist() == [1, 1, math.inf, math.inf, math.inf]


# Texts and random capacities


def test_texts_are_different_and_padded():
    models = Models()
    inputs = models.inputs([6, 9])
    assert inputs["attention_mask"].sum(1).tolist() == [6, 9]
    assert not torch.equal(inputs["input_ids"][0, :5], inputs["input_ids"][1, :5])
    for lengths in ([2], [513]):
        with pytest.raises(Skipped, match="3 to 512 tokens"):
            models.inputs(lengths)


def test_synthetic_capacities_are_like_attention():
    causal = attention_capacities((2, 3, 4, 4), one_live_row=False, causal=True)
    assert causal.dtype == torch.float32 and torch.equal(causal, causal.tril())
    torch.testing.assert_close(causal.sum(-1), torch.ones(2, 3, 4))
    one = attention_capacities((2, 3, 4, 4))
    assert (one[:, -1].sum(-1) > 0).sum(-1).tolist() == [1, 1] and (one[:, :-1] > 0).all()


# Skipping


def test_larger_sizes_are_skipped_after_one_over_the_limit():
    limit = TimeLimit(2.0)
    limit.record(32, 1.9)
    limit.check()
    limit.record(64, 3.0)
    with pytest.raises(Skipped, match="t = 64 took 3 s, the limit is 2 s"):
        limit.check()


def test_a_missing_extra_is_named(monkeypatch):
    require("igraph", "cvxpy")
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(Skipped, match=re.escape("igraph not installed: pip install 'attnflow[be")):
        require("cvxpy", "igraph")


def test_a_section_without_its_extra_is_skipped(bench, monkeypatch):
    for name in ("igraph", "cvxpy"):
        monkeypatch.setitem(sys.modules, name, None)
    out = bench("--sections", "clarabel", "igraph").out
    assert "## clarabel\n\nskipped: cvxpy not installed: pip install 'attnflow[bench]'" in out
    assert "## igraph\n\nskipped: igraph not installed: pip install 'attnflow[bench]'" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_its_section_is_skipped(bench):
    assert "## gpu\n\nskipped: no CUDA device" in bench("--sections", "gpu").out


def test_memory_that_the_system_does_not_report_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr("attnflow.cli.bench.memory.STATUS", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(Skipped, match="does not report"):
        solve_bytes(8, 2, one_live_row=True, threads=1)


def test_memory_that_cannot_be_measured_is_skipped(monkeypatch):
    ended = subprocess.CompletedProcess([], 1, "", "Traceback\nMemoryError: too large\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: ended)
    with pytest.raises(Skipped, match="ended with 1: MemoryError: too large"):
        solve_bytes(8, 2, one_live_row=False, threads=1)


def test_memory_is_that_of_the_solve():
    arrays = solve_bytes(96, 6, one_live_row=True, threads=1) / (8 * 6 * 96 * 96)
    assert 1 < arrays < 40


# The command


def rows(out):
    return [line for line in out.splitlines() if line.startswith("| ")]


def test_every_small_section_gives_its_rows(bench, monkeypatch):
    monkeypatch.setattr(scaling, "TEXTS", 4)
    monkeypatch.setattr(scaling, "solve_bytes", lambda t, layers, **_: 8 * 7 * layers * t * t)
    few = ("clarabel", "igraph", "model", "batch", "growth", "memory")
    shown = bench("--quick", "--sections", *few, "--lengths", 6, 8, "--repeat", 1, "--threads", 1)
    assert "threads: 1 " in shown.out and "skipped" not in shown.out
    assert len(rows(shown.out)) == len(few) + 2 + 2 + 4 + 2 + 2 + 4  # headers, then sizes
    assert shown.out.isascii() and "Fitted exponent of t: up to 512" in shown.out
    assert "100%" in shown.err and "16/16" in shown.err
    assert rows(shown.out)[-1] == "| 8 | 6 | all | 0.0215 | 7 |"
    assert "goal" not in shown.out


def test_a_competitor_over_its_limit_gives_a_bound_and_ends(bench):
    options = ("--sections", "clarabel", "--quick", "--lengths", 6, 8, "--time-limit", 1e-6)
    _, first, second = rows(bench(*options).out)
    assert "limit" in first and "> " in first
    assert re.search(r"\| skipped: t = 6 took \d+ s, the limit is 1e-06 s \|", second)


def test_lines_come_as_they_are_measured(monkeypatch):
    def measure(t):
        if t == 2:
            raise AssertionError("measured too early")
        return (0.5,)

    section = Section("Slow", "Note.", ("t", "s"), [(1,), (2,)], measure)
    monkeypatch.setitem(runner.BUILDERS, "gpu", lambda settings, models: section)
    lines = runner.lines(Settings(sections=["gpu"]))
    assert next(line for line in lines if line.startswith("| 1")) == "| 1 | 0.5 |"
    with pytest.raises(AssertionError, match="too early"):
        next(lines)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    (
        (["--time-limit", "0"], "expected seconds > 0, got 0"),
        (["--threads", "0"], "expected an integer of at least 1"),
        (["--sections", "everything"], "invalid choice"),
    ),
)
def test_wrong_options_are_refused(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as exit:
        main(["bench", "solver", *arguments])
    assert exit.value.code == 2 and complaint in capsys.readouterr().err


def test_every_section_can_be_built():
    assert set(runner.BUILDERS) == set(SECTIONS)


def test_the_status_of_a_batch_is_a_word_or_a_count():
    capacities = torch.stack([torch.ones(2, 3, 3), torch.zeros(2, 3, 3)])
    assert status_of(maximum_flow(capacities[:1])) == "solved"
    assert status_of(maximum_flow(capacities)) == "2 of 2 certified"
    hard = attention_capacities((1, 3, 6, 6))
    assert status_of(maximum_flow(hard, max_iterations=1)) == "iteration limit"
