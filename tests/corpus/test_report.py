"""The report's numbers against plain Python and SciPy, and what it refuses."""

import csv
import re
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from support.corpus_runs import LABELS, Told, failed_row, random_texts, write_run

from attnflow import explain_corpus
from attnflow.corpus.report import corpus_report, read_words
from attnflow.corpus.report.labels import wilson
from attnflow.corpus.report.tables import SECTIONS
from attnflow.errors import InputError, StorageError


@pytest.fixture(scope="module")
def texts():
    return random_texts(120)


@pytest.fixture(scope="module")
def run(texts, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "now", texts)


@pytest.fixture(scope="module")
def report(run):
    return corpus_report(
        run, words=["the", "good film"], pattern=r"n[o']t|ï", by="language", min_count=3, top=500
    )


def word_effects(told):
    return [float(np.sum(np.float32(effect))) for effect in told.effects]


def effects_in_texts(texts, length=1):
    """For each class and phrase, the mean effect in each text that has it."""
    found = defaultdict(list)
    for told in texts:
        words, effects = told.text.lower().split(" "), word_effects(told)
        in_text = defaultdict(list)
        for i in range(len(words) - length + 1):
            phrase = words[i : i + length]
            if length == 1 or all(re.search(r"\w", word) for word in phrase):
                in_text[" ".join(phrase)].append(sum(effects[i : i + length]))
        for phrase, values in in_text.items():
            found[LABELS[told.label], phrase].append(np.mean(values))
    return found


def interval(values):
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_words_and_phrases_are_those_of_scipy(report, texts, length):
    expected = {k: v for k, v in effects_in_texts(texts, length).items() if len(v) >= 3}
    found = {(w.label, w.phrase): w for w in report.words if w.length == length and w.label}
    assert set(found) == set(expected) and expected
    for key, values in expected.items():
        word = found[key]
        assert word.texts == len(values)
        assert [word.effect, word.low, word.high] == pytest.approx(
            [np.mean(values), *interval(values)], rel=1e-5, abs=1e-6
        )


def test_false_discovery_rates_are_those_of_scipy(report, texts):
    values = [v for v in effects_in_texts(texts).items() if len(v[1]) >= 3]
    for label in LABELS:
        keys = [(key, v) for key, v in values if key[0] == label]
        p = [stats.ttest_1samp(v, 0).pvalue for _, v in keys]
        expected = {
            key: q for (key, _), q in zip(keys, stats.false_discovery_control(p), strict=True)
        }
        found = {(w.label, w.phrase): w.q for w in report.words if w.length == 1}
        for key, q in expected.items():
            assert found[key] == pytest.approx(q, rel=1e-4)


def test_words_come_strongest_first_and_faint_ones_last(report):
    for label in (*LABELS, None):
        for is_for in (True, False):
            words = [w for w in report.words if w.label == label and w.length == 1]
            shown = [(w.is_faint, -round(abs(w.effect), 9)) for w in words if w.is_for == is_for]
            assert shown == sorted(shown)


def test_capitals_can_be_kept_apart(run):
    phrases = {w.phrase for w in corpus_report(run, fold_case=False, min_count=2).words}
    assert {"Good", "good"} <= phrases


def test_matches_are_whole_words_and_stretches(report, texts):
    found = {s.match: s for s in report.suspects if s.slice is None and s.label is None}
    for match in ("the", "good film"):
        inside = [t for t in texts if re.search(rf"(?<!\w){match}(?!\w)", t.text.lower())]
        assert found[match].matched == len(inside) > 0
    assert found["ï"].matched == sum("ï" in t.text for t in texts)
    sums, shares = [], []
    for told in texts:
        words, effects = told.text.lower().split(" "), word_effects(told)
        places = {i for i, word in enumerate(words) if word == "the"}
        places |= {
            j for i in range(len(words)) if words[i : i + 2] == ["good", "film"] for j in (i, i + 1)
        }
        if places:
            sums.append(sum(effects[i] for i in places))
            scores = [float(np.sum(np.abs(e))) for e in told.effects]
            shares.append(sum(scores[i] for i in places) / sum(scores))
    (every,) = [
        s
        for s in report.suspects
        if (s.rule, s.match, s.slice, s.label) == ("words", None, None, None)
    ]
    assert every.matched == len(sums) and every.texts == len(texts)
    assert [every.effect, every.low, every.high] == pytest.approx(
        [np.mean(sums), *interval(sums)], rel=1e-5
    )
    assert every.share == pytest.approx(np.mean(shares), rel=1e-5)


def test_slices_are_compared_as_welch_does(report, texts):
    correct = {name: [] for name in ("de", "en", "fr")}
    for told in texts:
        correct[told.source["language"]].append(float(str(told.label) == told.true))
    found = {
        s.slice: s for s in report.slices if (s.dimension, s.measure) == ("language", "correct")
    }
    assert set(found) == set(correct)
    for name, values in correct.items():
        rest = [x for other, more in correct.items() if other != name for x in more]
        low, high = stats.ttest_ind(values, rest, equal_var=False).confidence_interval()
        one = found[name]
        assert (one.texts, one.rest_texts) == (len(values), len(rest))
        assert [one.difference, one.low, one.high] == pytest.approx(
            [np.mean(values) - np.mean(rest), low, high]
        )


def test_mistakes_compare_wrong_and_right_predictions(report, texts):
    for label in (0, 1):
        sides = [
            effects_in_texts(
                t for t in texts if t.label == label and (t.true == str(label)) == side
            )
            for side in (False, True)
        ]
        found = {m.phrase: m for m in report.mistakes if m.predicted == LABELS[label]}
        assert found
        for phrase, mistake in found.items():
            wrong, right = (side[LABELS[label], phrase] for side in sides)
            assert (mistake.wrong_texts, mistake.right_texts) == (len(wrong), len(right))
            assert mistake.wrong == pytest.approx(np.mean(wrong), rel=1e-5) and mistake.wrong > 0
            if len(right) > 1:
                low, high = stats.ttest_ind(wrong, right, equal_var=False).confidence_interval()
                assert [mistake.low, mistake.high] == pytest.approx([low, high], rel=1e-4, abs=1e-5)


def test_accuracy_and_confusion_by_index(report, texts):
    right = sum(str(t.label) == t.true for t in texts)
    accuracy = report.accuracy
    assert (accuracy.matching, accuracy.labelled, accuracy.correct) == ("index", 120, right)
    expected = stats.binomtest(right, 120).proportion_ci(method="wilson")
    assert wilson(right, 120) == pytest.approx((expected.low, expected.high))
    assert sum(c.texts for c in report.confusion) == 120
    assert sum(c.texts for c in report.confusion if c.true_label == c.predicted) == right


@pytest.mark.parametrize(
    ("written", "given", "matching", "correct", "unmatched"),
    [
        (["NEGATIVE ", "positive"], None, "name", 2, 0),
        (["negative", "neutral"], None, "name", 1, 1),
        (["0", "1"], None, "index", 2, 0),
        (["0", "7"], None, "index", 1, 0),
        (["1", "1"], None, "index", 1, 0),
        (["1", "2"], None, "none", 0, 2),
        (["4", "5"], None, "none", 0, 2),
        (["bad", "fine"], None, "none", 0, 2),
        (["1", "2"], {"1": "negative", "2": "Positive"}, "given", 2, 0),
    ],
)
def test_labels_are_matched_and_what_cannot_be_is_told(
    tmp_path, written, given, matching, correct, unmatched
):
    texts = [Told("a b", (1.0, 2.0), i, true) for i, true in enumerate(written)]
    accuracy = corpus_report(write_run(tmp_path / "run", texts), labels=given).accuracy
    assert (accuracy.matching, accuracy.correct, accuracy.unmatched) == (
        matching,
        correct,
        unmatched,
    )
    assert accuracy.labelled + accuracy.unmatched == 2
    assert accuracy.unseen == sum("7" in label for label in written)


def test_source_without_labels_has_no_accuracy(tmp_path):
    report = corpus_report(write_run(tmp_path / "run", [Told("a b", (1.0, 2.0))]))
    assert report.accuracy is None and report.confusion == () and report.mistakes == ()


def test_drift_between_two_runs(tmp_path):
    before = [Told("film", (1.0 + i / 10,), 0) for i in range(6)] + [Told("moved", (1.0,), 0)]
    now = [Told("film", (3.0 + i / 10,), int(i == 0)) for i in range(6)] + [Told("on", (1.0,), 0)]
    report = corpus_report(
        write_run(tmp_path / "now", now, model="new"),
        compare=write_run(tmp_path / "before", before, model="old"),
        min_count=2,
    )
    drift = report.drift
    assert (drift.models_before, drift.models) == ("old", "new")
    assert (drift.same, drift.changed, drift.flipped) == (6, 1, 1)
    (flip,) = report.flips
    assert (flip.id, flip.before, flip.now) == ("t0", "negative", "positive")
    (change,) = [w for w in report.word_drift if w.label == "negative"]
    old, new = ([1.0 + i / 10 for i in range(6)], [3.0 + i / 10 for i in range(1, 6)])
    low, high = stats.ttest_ind(new, old, equal_var=False).confidence_interval()
    assert (change.texts_before, change.texts) == (6, 5)
    assert [change.difference, change.low, change.high] == pytest.approx(
        [np.mean(new) - np.mean(old), low, high], rel=1e-5
    )
    parts = {p.label: (p.before, p.now) for p in report.label_drift}
    assert parts == {"negative": (1.0, 6 / 7), "positive": (0.0, pytest.approx(1 / 7))}


def test_segments_failures_and_certificates(tmp_path):
    def parts(first, second):
        return [
            {"name": "question", "start": 0, "end": 1, "share": first, "contribution": 1.0},
            {"name": "passage", "start": 2, "end": 3, "share": second, "contribution": -1.0},
        ]

    texts = [
        Told("a b", (1.0, 1.0), changes={"segments": parts(x, 1 - x)}) for x in (0.2, 0.4, 0.6)
    ]
    texts += [failed_row("too long", "InputError"), failed_row("too long too", "InputError")]
    texts += [Told("c", (1.0,), changes={"certificate": {"status": "numerical_limit", "gap": 0.3}})]
    texts += [Told("d", (1.0,), changes={"certificate": {"status": "empty", "gap": float("nan")}})]
    report = corpus_report(write_run(tmp_path / "run", texts))
    question, passage = sorted(report.segments, key=lambda s: s.name, reverse=True)
    assert (question.texts, question.largest, passage.largest) == (3, 1, 2)
    assert question.share == pytest.approx(0.4) and passage.effect == -1.0
    assert (question.share_low, question.share_high) == pytest.approx(interval([0.2, 0.4, 0.6]))
    (failure,) = report.failures
    assert (failure.kind, failure.rows, failure.id) == ("InputError", 2, "t3")
    assert failure.error == "too long"
    proofs = report.certificates
    assert (proofs.certified, proofs.uncertified, proofs.worst_gap) == (4, 1, 0.3)
    assert (report.summary.explained, report.summary.failed) == (5, 2)


def test_runs_without_contributions_are_told_by_shares(tmp_path):
    texts = [
        Told("good film", (3.0, [0.5, 0.5]), changes={"contributions": None, "signed_scores": None})
    ]
    report = corpus_report(write_run(tmp_path / "run", texts * 3), min_count=2)
    assert report.summary.unit == "share"
    effects = {w.phrase: (w.effect, w.q) for w in report.words}
    assert effects == {
        "good": (pytest.approx(0.75), None),
        "film": (pytest.approx(0.25), None),
        "good film": (pytest.approx(1.0), None),
    }


def test_extremes(tmp_path):
    sure, unsure = {"confidence": 0.99}, {"confidence": 0.51}
    texts = [
        Told("a b c d e", (9.0, 0.1, 0.1, 0.1, 0.1), 0, "1", changes=sure),
        Told("f g h i j", (1.0, 1.0, 1.0, 1.0, 1.0), 0, "0", changes=unsure),
        Told("k", (1.0,), 0, "0"),
    ]
    report = corpus_report(write_run(tmp_path / "run", texts), top=1)
    assert {t.kind: t.id for t in report.texts} == {
        "most certain": "t0",
        "least certain": "t1",
        "most concentrated": "t0",
        "most spread": "t1",
        "most certain and wrong": "t0",
    }
    assert next(t for t in report.texts if t.kind == "most spread").evenness == pytest.approx(1)


def test_addresses_are_read_through_fsspec(run, report):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(run), "/report-run", recursive=True)
    words = corpus_report("memory://report-run", min_count=3, top=500).words
    # Threads add up in any order.
    assert [w.phrase for w in words] == [w.phrase for w in report.words]
    assert [w.effect for w in words] == pytest.approx([w.effect for w in report.words])


def test_tables_hold_all_sections_whole_or_not_at_all(report, run, tmp_path):
    files = report.to_csv(tmp_path / "csv")
    assert sorted(path.stem for path in files) == sorted(SECTIONS)
    with open(tmp_path / "csv" / "words.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["phrase"], float(r["effect"])) for r in rows] == [
        (w.phrase, w.effect) for w in report.words
    ]
    with pytest.raises(StorageError, match="exists already"):
        report.to_csv(tmp_path / "csv")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "labels.csv").write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        report.to_csv(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["labels.csv"]
    report.to_parquet(tmp_path / "pq")
    empty = pq.read_schema(tmp_path / "pq" / "flips.parquet")
    assert str(empty.field("confidence").type) == "double"
    assert report.to_dataframe("words").phrase.tolist() == [w.phrase for w in report.words]


def test_lines_for_a_terminal_obey_nothing(tmp_path):
    texts = [Told("\x1b[31mred x", (1.0, -1.0), 0, "0")] * 3
    report = corpus_report(write_run(tmp_path / "run", texts), min_count=2)
    assert "accuracy 100.0 %" in str(report) and "all flows certified" in str(report)
    assert "\x1b" not in str(report) and "<" not in report._repr_html_().removeprefix("<pre>")[:-6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "("}, r"must be a regular expression of RE2, got '\(': missing \)"),
        ({"pattern": "x*"}, "matches the empty text"),
        ({"by": "author"}, "must be a column that the run kept of its source: language, file"),
        ({"words": "good"}, "words must be a list of strings"),
        ({"words": ["good", " "]}, "has an empty word"),
        ({"min_count": 1}, "at least 2"),
        ({"top": 0}, "top must be an integer of at least 1"),
        ({"labels": {"0": 1}}, "labels must map"),
        ({"labels": {"World": "positive"}}, r"none of the source's labels: they are \['0', '1'\]"),
        ({"fold_case": "no"}, "fold_case must be True or False"),
    ],
)
def test_arguments_are_refused_in_one_line(run, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        corpus_report(run, **arguments)
    assert "\n" not in str(error.value)


def test_folders_of_no_run_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="has no manifest.json of a run"):
        corpus_report(tmp_path)
    with pytest.raises(InputError, match="has no manifest.json of a run"):
        corpus_report(run, compare=tmp_path)
    damaged = write_run(tmp_path / "damaged", [Told("a b", (1.0, 2.0))])
    next((damaged / "shards").iterdir()).write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="cannot read") as error:
        corpus_report(damaged)
    assert "\n" not in str(error.value)


def test_word_lists_are_read_a_word_a_line(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("# names\nhe\n\n  in  my opinion \nhe\n", encoding="utf-8")
    assert read_words(file) == ("he", "in my opinion")
    file.write_text("# nothing\n")
    with pytest.raises(InputError, match="has no words"):
        read_words(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_words(file)


@pytest.mark.parametrize("name", ("label=x", "model=y"))
def test_folder_with_a_sign_of_equality_is_no_column(name, explainer, tmp_path):
    out = tmp_path / name
    explain_corpus(["a good film", "a bad film"], explainer, out=out)
    report = corpus_report(out)
    assert {count.label for count in report.labels} <= set(explainer.labels)


def test_labels_by_index_are_named_where_one_class_is_explained(explainer, tmp_path):
    """The names are the model's own, not those that happen to be explained."""
    texts = ("a good film", "a bad film", "the story")
    names = list(explainer.labels)
    told = explainer(texts, target=1, tensor="cf")
    likeliest = [int(a.logits.argmax()) for a in told]
    rows = [{"text": t, "label": i} for t, i in zip(texts, likeliest, strict=True)]
    explain_corpus(
        rows, explainer, out=tmp_path, label_column="label", target=names[1], tensor="cf"
    )
    assert corpus_report(tmp_path).accuracy.correct == 3


def test_kept_column_named_as_a_rule_is_compared_by_itself(explainer, tmp_path):
    texts = ("a good film", "a bad film", "the story", "a fine story")
    rows = [{"text": text, "words": "no match" if i < 2 else "x"} for i, text in enumerate(texts)]
    explain_corpus(rows, explainer, out=tmp_path, keep_columns=["words"])
    report = corpus_report(tmp_path, words=["film"], by="words", min_count=2)
    slices = {(each.dimension, each.slice): each.texts for each in report.slices}
    assert slices == {("words", "match"): 2, ("words", "no match"): 2, ("words", "x"): 2}
