"""What the benchmarks make of their measurements; the benchmarks themselves are run by hand."""

from dataclasses import replace
from functools import partial

import pytest
import reliability
import texts
import torch
from journal import Journal
from networks import KINDS, random_network

from attnflow import maximum_flow


@pytest.fixture(scope="module")
def solved():
    """Two networks and their flows, at a gap of 1e-2."""
    network = random_network("attention", 2, seed=3)
    return network, maximum_flow(network)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_draws_the_same_networks_again(kind):
    first, again = random_network(kind, 3, seed=7), random_network(kind, 3, seed=7)

    assert torch.equal(first.capacities, again.capacities)
    assert len(first.capacities) == 3


def test_solved_flows_are_fine(solved):
    assert reliability.fine(reliability.measured(*solved, 1e-2)).tolist() == [True, True]


def test_flows_that_break_a_promise_are_not(solved):
    network, flow = solved
    full = flow.edges.clone()
    full[0] = network.capacities[0]
    drained = torch.stack([flow.sink[0], 0.99 * flow.sink[1]])

    def judged(gap=1e-2, **changes):
        changed = replace(flow, **changes)
        return reliability.fine(reliability.measured(network, changed, gap)).tolist()

    assert judged(edges=full) == [False, True]
    assert judged(sink=drained) == [True, False]
    assert judged(gap=1e-6) == [False, False]
    assert judged(upper_bound=0.9 * flow.value) == [False, False]
    assert judged(centrality=torch.tensor([0.0, float("nan")])) == [True, False]


def test_a_network_that_fails_is_saved_and_a_run_goes_on_where_it_was(monkeypatch, tmp_path):
    tasks = [t for t in reliability.random_tasks(1) if t.kind in ("one token", "attention")]
    limited = partial(maximum_flow, max_iterations=1)
    monkeypatch.setattr(reliability, "maximum_flow", limited)
    reliability.run(tasks[:1], Journal(tmp_path / "run.jsonl", {}), tmp_path / "failures")
    monkeypatch.setattr(reliability, "maximum_flow", maximum_flow)
    reliability.run(tasks, Journal(tmp_path / "run.jsonl", {}), tmp_path / "failures")

    records = Journal(tmp_path / "run.jsonl", {}).records
    assert [r["status"][0] for r in records.values()] == ["ITERATION_LIMIT", "SOLVED"]
    saved = torch.load(tmp_path / "failures" / "attention-0-2.pt")
    assert torch.equal(saved["capacities"][0], tasks[0].network().capacities[2])
    assert saved["gap"] == tasks[0].gap


def test_the_table_counts_by_kind():
    record = {"kind": "ties", "status": ["SOLVED", "EMPTY"], "iterations": [31, 0]}
    record |= {name: [1e-9, 0.0] for name in reliability.LIMITS}
    record |= {"interiority": [0.0, 0.0], "inside": [True, True]}

    rows = reliability.table([record, record | {"kind": "sst2 cf"}]).splitlines()

    worst = "1e-09 | 1e-09 | 1e-09 | 0e+00 | 0.00 | yes |"
    assert rows[2] == f"| ties | 2 | 1 | 1 | 31 | 31 | 31 | 1 | {worst}"
    assert [row.split(" | ")[0] for row in rows[3:]] == [
        "| sst2 cf",
        "| **all random**",
        "| **all real**",
    ]


def test_a_journal_forgets_a_torn_line_and_refuses_other_options(tmp_path):
    path = tmp_path / "run.jsonl"
    Journal(path, {"texts": 3}).add({"name": "a", "value": 1})
    with path.open("a") as file:
        file.write('{"name": "b", "va')

    journal = Journal(path, {"texts": 3})
    journal.add({"name": "c"})

    assert list(Journal(path, {"texts": 3}).records) == ["a", "c"]
    with pytest.raises(SystemExit, match="other options"):
        Journal(path, {"texts": 4})


def test_texts_are_drawn_by_length_and_padding_is_not_ordinary(explainer, tmp_path):
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "dev.tsv").write_text("text\tlabel\nbad\t0\na dog\t1\nthe film\t0\n")
    drawn = texts.read(tmp_path, "sst2")

    [batch] = texts.batches(explainer, drawn, number=3, size=8)
    [short] = texts.batches(explainer, drawn, number=3, size=8, longest=3)

    assert drawn == ["bad", "a dog", "the film"]
    assert batch.ordinary.sum(1).tolist() == [1, 2, 2]
    assert short.ordinary.tolist() == [[False, True, False]]
    with pytest.raises(SystemExit, match="--data"):
        texts.read(tmp_path, "imdb")
