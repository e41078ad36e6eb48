"""Tables that benchmarks make of measurements; the benchmarks themselves are run by hand."""

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import beyond
import cuts
import faithfulness
import noise
import numpy as np
import other_families
import others
import pytest
import reliability
import routes
import sensitivity
import stress
import texts
import torch
from journal import Journal
from known_answers import KnownAnswer
from networks import KINDS, random_network
from support.random_networks import random_capacities
from support.text_models import PROMPT, bare, language_model

from attnflow import Explainer, Status, layered_network, maximum_flow
from attnflow.capture import FAMILIES, TENSORS
from attnflow.evaluation import read_examples
from attnflow.inputs.image_file import open_image
from attnflow.methods import DEFAULT, METHODS


@pytest.fixture(scope="module")
def solved():
    """Two networks and their flows, at a gap of 1e-2."""
    network = layered_network(random_capacities("attention", batch=2, t=6))
    return network, maximum_flow(network)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_draws_the_same_networks_again(kind):
    first, again = random_network(kind, 3, seed=7), random_network(kind, 3, seed=7)

    assert torch.equal(first.capacities, again.capacities)
    assert len(first.capacities) == 3


@pytest.mark.parametrize("phase", beyond.SEEDS)
def test_methods_beyond_classifiers_are_known(phase):
    wanted = beyond.methods(phase)
    assert beyond.CHOSEN in wanted and set(wanted) <= set(METHODS)
    assert len(set(wanted)) == len(wanted)


def test_digits_are_written_as_the_command_reads_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    beyond.write_images(tmp_path / "digits", pixels, np.array([7, 0, 2]))
    found = read_examples(str(tmp_path / "digits"))
    assert [(e.content.name, e.label) for e in found] == [
        ("0000.png", 7), ("0001.png", 0), ("0002.png", 2)
    ]  # fmt: skip
    for example, own in zip(found, pixels, strict=True):
        assert (open_image(example.content).pixels[:, :, 0] == own).all()


def test_other_packages_score_each_token(tokenizer):
    explainer = Explainer(language_model(), bare(tokenizer))
    prompt = KnownAnswer(PROMPT, "good", (4, 7), "bad", "own")
    methods = others.of_attnflow(explainer) | others.of_captum(explainer.model, explainer.tokenizer)
    for name, scores in methods.items():
        assert np.isfinite(scores(prompt)).all() and len(scores(prompt)) == 4, name


@pytest.mark.parametrize(
    "kind, model_type, output",
    [
        ("decoder", "glm", "self_attn.o_proj"),
        ("decoder", "dots3_note", "self_attn.o_proj"),  # whose config has parts
        ("encoder", "nomic_bert", "o_proj"),
        ("encoder-decoder", "pegasus", "self_attn.out_proj"),
        ("vision", "siglip", "self_attn.out_proj"),
    ],
)
def test_a_tiny_model_of_an_unknown_family_is_built_and_found(kind, model_type, output):
    row = other_families.outcome(kind, model_type)
    assert (row.state, row.reason) == ("found", "")
    assert row.family.output == output
    assert f"| {model_type} | {kind} |" in other_families.page([row], Path("page.md"))


def test_a_refused_family_has_a_cause_and_a_reason():
    row = other_families.outcome("decoder", "mamba")
    assert (row.state, row.family) == ("refused", None)
    page = other_families.page([row], Path("page.md"))
    assert "state space" in page and f"| mamba | decoder | {row.reason} |" in page
    assert "| all | 0 | 1 | 0 |" in other_families.totals([row])


def test_families_that_are_entered_are_left_out():
    names = other_families.other_families()
    assert len(set(names)) == len(names) and not {name for _, name, _ in names} & set(FAMILIES)
    assert ("decoder", "glm", False) in names and ("encoder", "glm", False) not in names


def test_a_variant_of_a_family_has_its_own_name_and_outcome():
    row = other_families.outcome("decoder", "gemma4_text", variant=True)
    assert row.name == "gemma4_text, no per-layer inputs"
    assert row.state == "found"


def test_solved_flows_are_fine(solved):
    assert reliability.fine(reliability.measured(*solved, 1e-2)).tolist() == [True, True]


def test_flows_that_break_a_promise_are_not(solved):
    network, flow = solved
    narrow = network.capacities.clone()
    narrow[0, 0, 1, 2] = flow.edges[0, 0, 1, 2]  # which that flow fills to the brim
    drained = torch.stack([flow.sink[0], 0.99 * flow.sink[1]])

    def judged(network=network, gap=1e-2, **changes):
        changed = replace(flow, **changes)
        return reliability.fine(reliability.measured(network, changed, gap)).tolist()

    assert judged(layered_network(narrow)) == [False, True]
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


def test_rank_correlation_and_top_token_of_settings():
    unsolved = [float("nan")] * 4
    scores = np.array([[1, 2, 3, 4], [1, 20, 30, 31], [4, 3, 2, 1], [5, 5, 5, 5], unsolved]).T

    found = sensitivity.correlations(scores)

    expected = np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-12)
    assert np.isnan(found[3:]).all() and np.isnan(found[:, 3:]).all()
    assert sensitivity.highest(scores).tolist() == [3, 3, 0, 0, -1]
    assert np.isnan(sensitivity.correlations(scores[:, 3:])).all()


def test_the_share_that_moved():
    scores = np.ones((2, len(sensitivity.NAMES)))
    scores[:, 0], scores[:, 1] = [5, 0], [0, 0]

    assert sensitivity.moved(scores)[:3].tolist() == pytest.approx([0.5, np.nan, 0], nan_ok=True)


def test_a_bootstrap_interval_surrounds_the_mean_of_what_is_known():
    values = np.random.default_rng(1).normal(3, 1, size=400)

    middle, low, high = sensitivity.interval(np.append(values, np.nan))

    assert middle == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert np.isnan(sensitivity.interval(np.array([np.nan]))).all()


@pytest.fixture(scope="module")
def measured(solved):
    """Measurements of the two networks by sensitivity.py, twice."""
    network, _ = solved
    ordinary = torch.ones(network.capacities.shape[::2], dtype=torch.bool)
    record = sensitivity.measure(network, ordinary) | {"tensor": "af", "set": "sst2"}
    return sensitivity.collected([record, record])


def test_sensitivity_measures_every_setting(measured):
    settings = len(sensitivity.NAMES)

    assert measured.correlations.shape == (4, settings, settings)
    assert measured.solved.all() and (measured.same_top[:, sensitivity.REFERENCE] == 1).all()
    assert (np.diff(measured.mu[:, : sensitivity.REFERENCE]) < 0).all()
    assert len(sensitivity.table(measured).splitlines()) == 2 + settings
    assert len(sensitivity.matrix(measured).splitlines()) == 2 + settings


def test_the_plot_names_every_tensor(measured, tmp_path):
    pytest.importorskip("matplotlib")

    sensitivity.plot(dict.fromkeys(TENSORS, measured), tmp_path / "plot.svg")

    drawn = (tmp_path / "plot.svg").read_text()
    assert all(f">{tensor}</text>" in drawn for tensor in TENSORS)


def test_every_method_is_in_one_tier():
    for name, data in faithfulness.DATA.items():
        found = faithfulness.tiers(name, "test")
        asked = [method for methods, _ in found for method in methods]
        [(slow, texts)] = faithfulness.tiers(name, "slow")
        assert len(asked) == len(set(asked)) and set(asked) | set(slow) <= set(METHODS)
        assert set(DEFAULT) <= set(asked) | set(slow)
        assert set(slow) - set(asked) == faithfulness.MANY_PASSES and texts is None
        limits = [texts for _, texts in found]
        assert limits[0] is None and (data.some is None or limits[1] == data.some)
    for phase in ("screen", "extras"):
        [(once, _)] = faithfulness.tiers("sst2", phase)
        assert set(once) <= set(METHODS) and faithfulness.CHOSEN in once


def test_every_phase_has_texts_and_a_protocol():
    for name, phase in itertools.product(faithfulness.DATA, faithfulness.PHASES):
        file, texts, max_tokens = faithfulness.sampling_of(name, phase)
        assert file.startswith(f"{name}/") and ("train" in file) == (phase == "screen")
        assert texts > 0 and max_tokens <= 256
        assert bool(faithfulness.protocol(name, phase).extras) == (phase == "extras")


def test_cuts_are_shares_of_the_layers():
    found = {"af": [np.array([0.25, 0.75]), np.array([0.0, 1.0])]}
    widths = {"af": [np.array([2.0, 1.0]), np.array([4.0, 1.0])]}
    lines = cuts.tables("some", found, widths).splitlines()
    assert "| af | 0.12 | 0.88 | 50% |" in lines and "| af | 3.00 | 1.00 |" in lines


def test_noise_compares_the_chosen_method_with_each():
    def row(method, example, kind):
        fallen = {"bcf:flow": -3.0, "random": -0.5}.get(method, -1.0) + 0.1 * example
        lists = {operator: [fallen] * 5 for operator in ("mask", "delete")}
        return {"method": method, "example": example, "label": 1, "target": example % 2, "ties": 0,
                "log_p": -0.1, "removed": lists, "kept": lists, "seconds": None}  # fmt: skip

    rows = {k: [row(m, e, k) for m in noise.SHOWN for e in range(6)] for k in noise.KINDS}
    lines = noise.table("some", rows).splitlines()
    assert lines[2] == "6, 6, 6 texts; the classifier is right on 50.0%, 50.0%, 50.0%."
    (chosen, random) = (
        next(x for x in lines if x.startswith(f"| {m} ")) for m in ("bcf:flow", "random")
    )
    assert "(" not in chosen and random.count("(+") == 3


def test_routes_are_compared_with_the_capacities_of_their_tensor():
    kept = {
        "random": np.ones((3, 8)),
        "cf capacity": np.ones((3, 8)),
        "cf flow": np.full((3, 8), 3),
    }
    assert list(routes._beyond_capacities(kept)) == ["cf flow"]
    assert (routes._beyond_capacities(kept)["cf flow"] == 2).all()


def test_stress_sees_what_is_wrong_with_a_flow():
    u = torch.ones(1, 2, 3, 3, dtype=torch.float64)
    flow = maximum_flow(u)

    def faults(**changed):
        other = replace(flow, **{name: getattr(flow, name) + x for name, x in changed.items()})
        return stress.faults_of(u[0], flow, other, 0, 1e-2)

    assert faults() == []
    assert "below the exact" in faults(upper_bound=-1.0)[0]
    assert "above the exact" in faults(value=1.0)[0]
    assert "too far below" in faults(value=-1.0)[0]
    empty, limited = maximum_flow(0 * u), maximum_flow(u, max_iterations=1)
    assert stress.faults_of(u[0], empty, empty, 0, 1e-2)[-1] == "empty, and exactly 9.0"
    assert stress.faults_of(u[0], flow, limited, 0, 1e-2) == []
    lost = replace(limited, status=(Status.NUMERICAL_LIMIT,))
    assert stress.faults_of(u[0], lost, limited, 0, 1e-2) == [
        "NUMERICAL_LIMIT alone, ITERATION_LIMIT in a batch"
    ]


def test_stress_counts_what_is_certified():
    some = {"kind": "ties", "decades": 3, "status": "SOLVED", "certified_in_one": True}

    rows = stress.table([some, some | {"status": "NUMERICAL_LIMIT"}, some | {"decades": 8}])

    assert "| decades | 3 | 8 |" in rows
    assert "| ties | 1 of 2 | 1 |" in rows and "| **all** | 1 of 2 | 1 |" in rows
    assert rows.endswith("| in one only | 2 | 1 |")


@pytest.mark.attack
@pytest.mark.parametrize(
    "batches", [1, pytest.param(60, marks=pytest.mark.exhaustive)], ids=["few", "many"]
)
@pytest.mark.parametrize("decades", [d for d in stress.DECADES if d <= 30])
def test_networks_over_thirty_decades_are_certified_alone_and_in_a_batch(decades, batches):
    for seed in range(batches):
        for network in stress.batch_of(decades, seed):
            assert not network["faults"] and not network["certified_in_one"], network
            assert network["status"] in ("SOLVED", "EMPTY"), network
