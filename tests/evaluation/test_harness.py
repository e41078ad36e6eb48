"""The instrument itself: on a model whose answer is known, by hand, and after a kill."""

import hashlib
import itertools
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from attnflow import InputError, MissingExtraError, ModelError
from attnflow.evaluation import (
    METRICS,
    PRESETS,
    Example,
    Protocol,
    RunSettings,
    bootstrap_estimate,
    differences,
    evaluate,
    holm,
    means,
    metric_scores,
    read_examples,
    read_rows,
    read_scores,
    sample_instances,
    table,
)
from attnflow.evaluation.metrics import LOWER_IS_BETTER
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.protocol import MethodOutput, measure_faithfulness
from attnflow.evaluation.ranking import rank_units, unit_masks
from attnflow.evaluation.run_folder import ROWS, read_run
from attnflow.evaluation.run_folder import RUN as RUN_FILE
from attnflow.evaluation.statistics import trimmed_mean
from attnflow.methods import METHODS, Method, TextVariant

TEXTS = (
    "the good film a bad fine dull film",
    "good good bad the film a fine a",
    "fine film the dull good a bad the",
    "a good the fine film dull dull good",
)
PROTOCOL = Protocol(operators=("mask", "delete", "pad"))


def named(name):
    return Method(name, lambda instance: np.zeros(instance.nodes), "")


def rows_of(instances, **scorers):
    rows = []
    for index, instance in enumerate(instances):
        answers = [
            MethodOutput(named(name), scorer(instance), 0.0) for name, scorer in scorers.items()
        ]
        rows += [
            {"example": index, **row} for row in measure_faithfulness(instance, answers, PROTOCOL)
        ]
    return rows


def signed(found):
    """All metrics but the one that counts a rise of the probability like a fall."""
    return [(key, values) for key, values in found.values.items() if key[0] != "absolute_aopc"]


def test_an_oracle_is_best_and_its_opposite_worst(instance, oracle):
    rng = np.random.default_rng(0)
    rows = rows_of(
        [instance(text) for text in TEXTS],
        oracle=oracle,
        inverted=lambda q: -oracle(q),
        other=lambda q: rng.random(q.nodes),
    )
    found = metric_scores(rows)
    for (metric, _), values in signed(found):
        best, worst, other = values.mean(1) * (-1 if metric in LOWER_IS_BETTER else 1)
        assert best > other > worst, metric


def test_no_order_beats_the_oracle(instance, oracle):
    asked = instance("good bad fine dull")
    orders = {
        str(order): lambda q, order=order: np.array([0.0, *order, 0.0])
        for order in itertools.permutations(range(4))
    }
    found = metric_scores(rows_of([asked], oracle=oracle, **orders))
    for (metric, _), values in signed(found):
        sign = -1 if metric in LOWER_IS_BETTER else 1
        assert (sign * values[0] >= sign * values - 1e-6).all(), metric


def test_constants_are_as_good_as_chance(instance):
    instances = [instance(TEXTS[0]) for _ in range(300)]
    rows = []
    for seed, asked in enumerate(instances):
        answers = [
            MethodOutput(named("constant"), np.ones(asked.nodes), 0.0),
            MethodOutput(named("random"), np.random.default_rng(seed).random(asked.nodes), 0.0),
        ]
        rows += [
            {"example": seed, **r}
            for r in measure_faithfulness(asked, answers, Protocol(seed=seed))
        ]
    found = metric_scores(rows)
    for metric, operator in found.values:
        difference, _ = differences(found, "constant", metric, operator)["random"]
        assert difference.low <= 0 <= difference.high
    assert found.ties.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("change", (lambda x: np.exp(x), lambda x: 5 * x - 3, lambda x: x**3))
def test_monotone_changes_of_the_scores_change_nothing(instance, oracle, change):
    asked = [instance(text) for text in TEXTS]
    rows = rows_of(asked, plain=oracle, changed=lambda q: change(oracle(q)))
    for plain, changed in zip(rows[::2], rows[1::2], strict=True):
        assert {**plain, "method": ""} == {**changed, "method": ""}


def test_two_words_by_hand(instance):
    """ "good bad": log-odds 1; without good -2, without bad 3."""
    asked = instance("good bad")
    scores = np.array([0.0, 1.0, 0.5, 0.0])
    (row,) = measure_faithfulness(
        asked, [MethodOutput(named("m"), scores, 0.0)], Protocol((0.5, 1.0), ("mask",))
    )

    def log_p(odds):
        return -math.log1p(math.exp(-odds))

    assert row["units"] == 2
    assert row["log_p"] == pytest.approx(log_p(1), abs=1e-6)
    assert row["removed"]["mask"] == pytest.approx([log_p(-2), log_p(0)], abs=1e-6)
    assert row["kept"]["mask"] == pytest.approx([log_p(3), log_p(1)], abs=1e-6)
    whole, removed, kept = (np.array(x) for x in ([row["log_p"]], [row["removed"]["mask"]],
                                                  [row["kept"]["mask"]]))  # fmt: skip
    p = {odds: math.exp(log_p(odds)) for odds in (-2, 0, 1, 3)}
    expected = {
        "aopc": p[1] - (p[-2] + p[0]) / 2,
        "log_odds": (log_p(-2) + log_p(0)) / 2 - log_p(1),
        "logit_drop": 1 - (-2 + 0) / 2,
        "sufficiency": p[1] - (p[3] + p[1]) / 2,
        "deletion_auc": (p[-2] + p[0]) / 2,
        "insertion_auc": (p[3] + p[1]) / 2,
        "absolute_aopc": (p[1] - p[-2] + p[1] - p[0]) / 2,
        "area_between": (3 + 1) / 2 - (-2 + 0) / 2,
    }
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert METRICS[name](whole, removed, kept)[0] == pytest.approx(value, abs=1e-5), name


def test_operators_mask_delete_or_pad(instance):
    asked = instance("the good film")
    removed = np.array([False, False, True, False, False])
    tokenizer = asked.adapter.tokenizer

    def tokens(name):
        return tokenizer.convert_ids_to_tokens(OPERATORS[name](asked, removed).ids.tolist())

    assert tokens("mask") == ["[CLS]", "the", "[MASK]", "film", "[SEP]"]
    assert tokens("delete") == ["[CLS]", "the", "film", "[SEP]"]
    assert tokens("pad") == ["[CLS]", "the", "[PAD]", "film", "[SEP]"]
    assert OPERATORS["pad"](asked, removed).attended.tolist() == (~removed).tolist()
    assert tokens("pad-attended") == tokens("pad")
    assert OPERATORS["pad-attended"](asked, removed).attended.all()


def test_special_tokens_are_never_removed_and_words_go_whole(instance):
    asked = instance("the good film")
    units = unit_masks(asked, "token")
    assert units.shape == (3, 5) and not units[:, [0, -1]].any()
    scores = np.array([9.0, 1.0, 3.0, 2.0, 9.0])
    order = rank_units(scores, units, np.random.default_rng(0))
    assert order.order.tolist() == [1, 2, 0]
    assert order.first(1).tolist() == [False, False, True, False, False]
    assert order.rest(1).tolist() == [False, True, False, True, False]
    with pytest.raises(InputError, match="granularity"):
        unit_masks(asked, "letter")


def removed_by_attcat(scores, special, share):
    """The loop of its notebooks: tokens from the top, special ones passed over, the last never."""
    wanted = round(share * len(scores))
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    gone, at = [], 0
    while len(gone) < wanted and at < len(scores) - 1:
        if not special[order[at]]:
            gone.append(order[at])
        at += 1
    return gone


@pytest.mark.parametrize("of_special", (99.0, 3.5))
def test_the_protocol_of_attcat(classifier, of_special):
    """Special tokens on top, or one among the others and one last."""
    protocol = PRESETS["attcat"]
    examples = [Example(i, text, label=1 - i % 2) for i, text in enumerate(TEXTS)]
    found = {e.index: q for e, q in sample_instances(examples, classifier, target=protocol.target)}
    assert {index: q.target for index, q in found.items()} == {0: 1, 1: 0, 2: 1, 3: 0}
    asked = found[0]
    scores = np.array([of_special, 3.0, 8.0, 1.0, 7.0, 5.0, 4.0, 2.0, 6.0, of_special - 5])
    (row,) = measure_faithfulness(asked, [MethodOutput(named("m"), scores, 0.0)], protocol)
    assert set(row["removed"]) == {"delete", "pad-attended"}
    variants = []
    for share in protocol.shares:
        gone = removed_by_attcat(scores, asked.content.special, share)
        if of_special == 99.0 and share > 0.75:  # the token that comes last of all, which we remove
            gone = [*gone, 3]
        ids = np.delete(asked.inputs["input_ids"][0].numpy(), gone)
        variants.append(TextVariant({"input_ids": ids.tolist()}, np.ones(len(ids), bool)))
    expected = classifier.log_probabilities(variants)[:, asked.target]
    assert row["removed"]["delete"] == pytest.approx(expected, abs=1e-6)


def test_labels_are_explained_where_the_protocol_says_so(classifier, tmp_path):
    for label in (None, 2):
        with pytest.raises(InputError, match="labels are to be explained"):
            sample_instances([Example(0, TEXTS[0], label)], classifier, target="label")
    with pytest.raises(InputError, match="target must be one of predicted, label"):
        sample_instances([Example(0, TEXTS[0], 0)], classifier, target="labels")
    wrong = sample_instances([Example(0, "good good fine film", 0)], classifier, min_tokens=3)
    run = RunSettings("model", "data.tsv", PRESETS["attcat"])
    with pytest.raises(InputError, match="choose the instances with target='label'"):
        evaluate(run, wrong, [RANDOM], tmp_path)


def test_without_the_kept_there_is_no_sufficiency(asked, oracle, tmp_path):
    methods = [Method("oracle", oracle, ""), RANDOM]
    full = metric_scores(evaluate(RUN, asked, methods, tmp_path / "full"))
    run = RunSettings("model", "data.tsv", replace(PROTOCOL, kept=False))
    half = metric_scores(evaluate(run, asked, methods, tmp_path / "half"))
    assert set(full.values) - set(half.values) == {
        (metric, operator)
        for metric in ("sufficiency", "insertion_auc", "area_between")
        for operator in PROTOCOL.operators
    }
    for key, values in half.values.items():
        assert values == pytest.approx(full.values[key], abs=1e-6)
    assert "sufficiency" not in table(half)


def test_judging_in_bfloat16_changes_little_and_methods_nothing(bert):
    scores = np.arange(float(bert.nodes))
    rows = [
        measure_faithfulness(
            bert, [MethodOutput(named("m"), scores, 0.0)], Protocol(precision=precision)
        )[0]
        for precision in ("float32", "bfloat16")
    ]
    exact, rounded = (np.array(row["removed"]["mask"]) for row in rows)
    assert not np.array_equal(exact, rounded)
    assert np.exp(rounded) == pytest.approx(np.exp(exact), abs=0.02)


def test_ties_are_broken_at_random_and_counted(instance):
    asked = instance("the good film")
    units = unit_masks(asked, "token")
    scores = np.array([0.0, 1.0, 1.0, 0.0, 0.0])
    orders = {
        tuple(rank_units(scores, units, np.random.default_rng(seed)).order[:2])
        for seed in range(20)
    }
    assert orders == {(0, 1), (1, 0)}
    assert rank_units(scores, units, np.random.default_rng(0)).ties == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "bad",
    (
        {"shares": (0.1, 1.5)},
        {"shares": (-0.3,)},
        {"shares": ()},
        {"operators": ("burn",)},
        {"operators": ()},
        {"granularity": "letter"},
        {"extras": ("magic",)},
        {"target": "best"},
        {"counted": "letters"},
        {"precision": "float16"},
    ),
)
def test_a_protocol_is_checked_at_once(bad):
    with pytest.raises(InputError, match=f"{next(iter(bad))} must"):
        Protocol(**bad)


def test_a_method_that_fails_is_a_row_with_the_reason(asked, oracle, tmp_path):
    def broken(instance):
        raise ModelError("this model has no such layer")

    methods = [Method("broken", broken, ""), Method("oracle", oracle, "")]
    rows = evaluate(RUN, asked, methods, tmp_path)
    assert sum("failed" in row for row in rows) == 4
    assert metric_scores(rows).methods == ("oracle",)
    with pytest.raises(InputError, match="no rows of broken. this model has no such layer"):
        metric_scores(rows, ["broken"])
    assert len(evaluate(RUN, asked, methods, tmp_path)) == len(rows)


def test_other_texts_are_another_run(asked, instance, tmp_path):
    evaluate(RUN, asked, [RANDOM], tmp_path)
    other = [(asked[0][0], instance("good good good")), *asked[1:]]
    complaint = "run of other texts, or of a model that gives other probabilities: name another"
    with pytest.raises(InputError, match=complaint):
        evaluate(RUN, other, [RANDOM], tmp_path)


@pytest.mark.parametrize(("before", "after"), ((1, 3), (3, 1), (2, 4)))
def test_the_limit_may_change(asked, instance, tmp_path, before, after):
    evaluate(replace(RUN, limit=before), asked[:before], [RANDOM], tmp_path)
    rows = evaluate(replace(RUN, limit=after), asked[:after], [RANDOM], tmp_path)
    assert len(rows) == max(before, after)
    assert read_run(tmp_path)["run"]["limit"] == after
    # All texts are still compared, those beyond a smaller limit too.
    last = max(before, after) - 1
    other = [*asked[:last], (asked[last][0], instance("good good good"))]
    with pytest.raises(InputError, match="run of other texts"):
        evaluate(RUN, other, [RANDOM], tmp_path)


@pytest.mark.parametrize("before", (2, 4))
def test_a_run_with_one_digest_of_all_texts_goes_on(asked, instance, tmp_path, before):
    """Older versions saved it."""
    evaluate(RUN, asked[:before], [RANDOM], tmp_path)
    digest = hashlib.sha256()
    for _, one in asked[:before]:
        adapter = one.adapter
        log_p = adapter.log_probabilities([adapter.whole_variant(one.content)])[0]
        digest.update(adapter.identity(one.content) + log_p.round(2).tobytes())
    record = read_run(tmp_path)
    record["run"]["texts"] = digest.hexdigest()[:16]
    (tmp_path / RUN_FILE).write_text(json.dumps(record), encoding="utf-8")

    other = [(asked[0][0], instance("good good good")), *asked[1:]]
    with pytest.raises(InputError, match="run of other texts"):
        evaluate(RUN, other, [RANDOM], tmp_path)
    assert len(evaluate(RUN, asked, [RANDOM], tmp_path)) == 4
    assert len(read_run(tmp_path)["run"]["texts"]) == 4


def test_shares_are_rounded_up():
    assert Protocol((0.1, 0.2, 0.5, 1.0)).counts(10, 12) == [1, 2, 5, 10]
    assert Protocol((0.1, 0.2, 0.5, 1.0)).counts(3, 5) == [1, 1, 2, 3]
    assert Protocol((0.15, 0.3)).counts(100, 102) == [15, 30]
    assert Protocol((0.1, 0.9), counted="positions").counts(8, 10) == [1, 8]


def test_probabilities_do_not_depend_on_batch_mates(classifier, instance):
    asked = [instance(text) for text in TEXTS]
    removed = [np.arange(q.nodes) == k for q in asked for k in range(1, 5)]
    variants = [
        OPERATORS["delete"](q, removed[4 * i + k]) for i, q in enumerate(asked) for k in range(4)
    ]
    together = classifier.log_probabilities([*variants, variants[0]])
    alone = np.concatenate([classifier.log_probabilities([v]) for v in variants])
    np.testing.assert_allclose(together[:-1], alone, rtol=1e-6)
    assert (together[-1] == together[0]).all()


# Harness


@pytest.fixture
def asked(instance):
    return [
        (Example(7 * i, text, 1), replace(instance(text), seed=7 * i))
        for i, text in enumerate(TEXTS)
    ]


RUN = RunSettings("model", "data.tsv", PROTOCOL)
RANDOM, OCCLUSION = METHODS["random"], METHODS["occlusion"]


def without_seconds(rows):
    return sorted(
        (json.dumps({**row, "seconds": 0}, sort_keys=True) for row in rows),
    )


def test_a_killed_run_goes_on(asked, tmp_path):
    whole = evaluate(RUN, asked, [RANDOM, OCCLUSION], tmp_path / "whole")
    killed = []

    def kill(count):
        killed.append(count)
        if sum(killed) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(RUN, asked, [RANDOM, OCCLUSION], tmp_path / "cut", progress=kill)
    with open(tmp_path / "cut" / ROWS, "a", encoding="utf-8") as file:
        file.write('{"example": 14, "method": "ran')

    seen = []
    again = evaluate(RUN, asked, [RANDOM, OCCLUSION], tmp_path / "cut", progress=seen.append)

    assert seen == [4, 2, 2]
    assert without_seconds(again) == without_seconds(whole)
    assert without_seconds(read_rows(tmp_path / "cut")) == without_seconds(whole)


def test_methods_can_be_added_and_bring_no_row_twice(asked, tmp_path):
    evaluate(RUN, asked, [RANDOM], tmp_path)
    rows = evaluate(RUN, asked, [RANDOM, OCCLUSION], tmp_path)
    assert len(rows) == len({(row["method"], row["example"]) for row in rows}) == 8
    assert without_seconds(rows) == without_seconds(
        evaluate(RUN, asked, [RANDOM, OCCLUSION], tmp_path / "fresh")
    )


def test_a_folder_of_another_run_is_refused(asked, tmp_path):
    evaluate(RUN, asked[:1], [RANDOM], tmp_path)
    with pytest.raises(InputError, match="another protocol"):
        evaluate(RunSettings("model", "data.tsv", Protocol((0.5,))), asked, [RANDOM], tmp_path)


def test_scores_from_elsewhere_are_judged_alike(asked, oracle, tmp_path):
    external_scores = {example.index: oracle(q) for example, q in asked}
    file = tmp_path / "mine.jsonl"
    lines = [json.dumps({"example": i, "scores": s.tolist()}) for i, s in external_scores.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    name, scores = read_scores(f"mine={file}")
    ours = Method("ours", oracle, "")

    rows = evaluate(RUN, asked, [ours], tmp_path / "run", external_scores={name: scores})

    found = metric_scores(rows)
    for values in found.values.values():
        assert (values[found.methods.index("ours")] == values[found.methods.index("mine")]).all()
    external_scores = {"mine": {0: np.ones(3)}}
    with pytest.raises(InputError, match="must be 10 finite numbers"):
        evaluate(RUN, asked, [ours], tmp_path / "other", external_scores=external_scores)
    with pytest.raises(InputError, match="name of a method"):
        evaluate(RUN, asked, [ours], tmp_path / "other", external_scores={"attcat": scores})
    for bad in ("mine", "mine=scores.txt"):
        with pytest.raises(InputError, match="scores must be"):
            read_scores(bad)


def test_extras_are_columns_of_their_own(asked, oracle, tmp_path):
    protocol = Protocol(extras=("steps", "naopc", "soft", "infidelity", "sensitivity"))
    methods = [Method("oracle", oracle, ""), Method("inverted", lambda q: -oracle(q), "")]
    rows = evaluate(RunSettings("model", "data.tsv", protocol), asked, methods, tmp_path)
    found = metric_scores(rows)
    best = found.values["naopc", "mask"]
    assert best[0] == pytest.approx(1, abs=1e-5) and best[1] == pytest.approx(0, abs=1e-5)
    soft = found.values["soft_sufficiency", ""].mean(1)
    assert soft[0] > soft[1]
    assert found.values["max_sensitivity", ""].tolist() == [[0.0] * 4] * 2
    head = table(found, reference="oracle").splitlines()[2]
    for name in (
        "aopc_steps mask",
        "insertion_auc_steps delete",
        "naopc mask",
        "naopc delete",
        "infidelity",
        "max_sensitivity",
    ):
        assert f"| {name} |" in head


def test_all_steps_are_shares_of_one_unit_each(asked, oracle):
    example, instance = asked[0]
    units = int(instance.ordinary.sum())
    shares = tuple(k / units for k in range(1, units + 1))
    answers = [MethodOutput(named("m"), oracle(instance), 0.0)]
    (row,) = measure_faithfulness(instance, answers, Protocol(shares, extras=("steps",)))
    found = metric_scores([{"example": example.index, **row}])
    for metric in ("aopc", "log_odds", "deletion_auc", "insertion_auc"):
        for operator in ("mask", "delete"):
            stepped = found.values[f"{metric}_steps", operator]
            assert stepped == pytest.approx(found.values[metric, operator], abs=1e-6)


# Files


def test_examples_from_files(tmp_path):
    for name, content in {
        "a.tsv": 'text\tlabel\na "quoted film\t1\n',
        "a.csv": 'label,sentence\n1,"a ""quoted film"\n',
        "a.jsonl": '{"text": "a \\"quoted film", "label": 1}\n',
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_examples(str(tmp_path / name)) == [Example(0, 'a "quoted film', 1)]
    (tmp_path / "b.tsv").write_text("words\tlabel\nx\t1\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'text'"):
        read_examples(str(tmp_path / "b.tsv"))
    with pytest.raises(InputError, match="cannot read"):
        read_examples(str(tmp_path / "none.tsv"))


# Statistics


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        found = bootstrap_estimate(rng.exponential(size=60), seed=seed)
        covered += found.low <= 1.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_missing_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingExtraError, match=r"need SciPy: .*'attnflow\[evaluation\]'"):
        bootstrap_estimate(np.arange(4.0))


def test_an_estimate_of_a_clear_and_of_no_difference():
    rng = np.random.default_rng(0)
    clear, none = (
        bootstrap_estimate(rng.normal(1, 1, 100)),
        bootstrap_estimate(rng.normal(0, 1, 100)),
    )
    assert clear.low > 0 and clear.p < 1e-3 and clear.wins > 0.7
    assert none.low < 0 < none.high and none.p > 0.05
    assert bootstrap_estimate(np.zeros(5)).p == bootstrap_estimate(np.ones(1)).p == 1.0
    assert 0 < bootstrap_estimate(np.ones(5)).p < 1e-3 and np.isnan(
        bootstrap_estimate(np.ones(1)).low
    )


def test_robust_log_odds_are_medians_and_trimmed_means(asked, oracle, tmp_path):
    rows = evaluate(RUN, asked, [Method("oracle", oracle, "")], tmp_path)
    found = metric_scores(rows)
    own = found.values["log_odds", "mask"][0]
    assert means(found, "log_odds_median", "mask")[0].mean == np.median(own)
    alike = metric_scores([{**row, "method": name} for row in rows for name in ("one", "other")])
    (same, _), *_ = differences(alike, "one", "log_odds_median", "mask").values()
    assert same.mean == 0
    shown = table(found, metrics=("log_odds_median", "log_odds_trimmed")).splitlines()
    assert "| log_odds_median mask |" in shown[2] and f"{np.median(own):.3f} [" in shown[4]
    outlier = np.append(np.linspace(0, 1, 199), -1e6)
    assert bootstrap_estimate(outlier, statistic=trimmed_mean).mean == pytest.approx(
        0.4975, abs=0.01
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("form", ("text", "csv", "latex", "html"))
def test_tables(asked, oracle, tmp_path, form):
    methods = [Method("<i>oracle&", oracle, ""), RANDOM]
    found = metric_scores(evaluate(RUN, asked, methods, tmp_path))
    shown = table(found, reference="random", form=form)
    mean = means(found, "aopc", "mask")[0].mean
    assert f"{mean:.3f}" in shown
    escaped = {"html": "&lt;i&gt;oracle&amp;", "latex": "<i>oracle\\&"}
    assert escaped.get(form, "<i>oracle&") in shown
    with pytest.raises(InputError, match="reference"):
        table(found, reference="nobody")
