"""Results agree with themselves in pandas, CSV, SHAP, Captum and Inseq, and pages stay safe."""

import csv
import dataclasses
import html
import math
import re
import sys

import numpy as np
import pytest
from support.example_attributions import REVIEW, attribution_of, continuation_of, image_of

import attnflow
from attnflow import InputError, MissingExtraError, StorageError
from attnflow.attribution.table import RESULT_COLUMNS, TOKEN_COLUMNS

MARKUP = "a <b>bold</b> film, $5 & $$: <script>alert(1)</script>"
HOSTILE = "<img src=x onerror=alert(1)>"
TAGS = re.compile(r"<(?:script|img)\b", re.I)


@pytest.fixture(scope="module")
def signed(explainer, texts):
    return explainer(texts[0])


@pytest.fixture(scope="module")
def marked_up():
    a = attribution_of(MARKUP, labels=("negative", HOSTILE))
    return dataclasses.replace(a, tokens=("<script>alert(0)</script>", *a.tokens[1:]))


@pytest.fixture(scope="module")
def shap():
    import matplotlib

    matplotlib.use("Agg")
    return pytest.importorskip("shap")


@pytest.fixture(params=("one", "several"))
def result(request):
    return attribution_of(MARKUP) if request.param == "one" else continuation_of(MARKUP)


# Tables


def test_a_data_frame_has_the_numbers_of_the_attribution(signed):
    frame = signed.to_dataframe()
    assert tuple(frame.columns) == TOKEN_COLUMNS and len(frame) == len(signed)
    for column, numbers in (
        ("score", signed.scores),
        ("share", signed.shares),
        ("contribution", signed.contributions),
        ("signed_score", signed.signed_scores),
        ("special", signed.special),
    ):
        assert np.array_equal(frame[column].to_numpy(), numbers)
    for row in frame[~frame.special].itertuples():
        assert row.text == signed.text[row.start : row.end]
    ranked = frame.dropna(subset="rank").sort_values("rank")
    assert list(ranked["rank"]) == list(range(1, len(ranked) + 1))
    assert list(zip(ranked.text, ranked.score, strict=True)) == signed.top(len(signed))
    assert list(frame.word.isna()) == [word is None for word in signed.word_ids]


def test_equal_scores_rank_in_the_order_of_the_text():
    long = attribution_of(REVIEW)
    tied = dataclasses.replace(long, scores=np.arange(len(long)) % 3 + 1.0)
    ranked = tied.to_dataframe().dropna(subset="rank").sort_values("rank")
    assert list(ranked.index) == sorted(ranked.index, key=lambda i: (-tied.scores[i], i))


def test_the_types_of_columns_do_not_depend_on_what_is_missing(signed):
    chat = continuation_of("be kind\nhello there you", roles=("user", "assistant"))
    frames = [attnflow.to_dataframe(a) for a in (signed, chat, image_of((2, 3)))]
    assert len({tuple(frame.dtypes) for frame in frames}) == 1
    assert set(frames[1].role.dropna()) == {"user", "assistant"}
    assert frames[0].role.isna().all() and frames[2].contribution.isna().all()


def test_a_data_frame_of_a_continuation_names_each_explained_token():
    several = continuation_of()
    frame = several.to_dataframe()
    assert tuple(frame.columns) == RESULT_COLUMNS + TOKEN_COLUMNS
    for number, a in enumerate(several):
        rows = frame[frame.result == number]
        assert set(rows.label) == {a.label} and set(rows.position) == {a.position}
        assert np.array_equal(rows.score.to_numpy(), a.scores)
    assert len(frame) == sum(map(len, several))


def test_a_data_frame_of_all_that_a_call_returned(signed):
    several = continuation_of()
    frame = attnflow.to_dataframe([signed, [signed, signed], several])
    assert list(frame.result.unique()) == list(range(3 + len(several)))
    assert frame[frame.result == 1].position.isna().all()
    with pytest.raises(
        InputError, match="results must be an Attribution or lists of them, got str"
    ):
        attnflow.to_dataframe([signed, "text"])


def test_a_csv_file_is_the_data_frame(result, tmp_path):
    import pandas

    path = result.to_csv(tmp_path / "a.csv")
    read = pandas.read_csv(path, keep_default_na=False, na_values=[""])
    frame = result.to_dataframe()
    read = read.astype(frame.dtypes.to_dict())
    pandas.testing.assert_frame_equal(read, frame, check_exact=True)


def test_a_csv_file_keeps_any_text(tmp_path):
    odd = attribution_of('one "two", three\nfour NA \ud800')
    odd = dataclasses.replace(odd, tokens=(*odd.tokens[:-1], 'a"b,\r\n\x00'))
    with open(odd.to_csv(tmp_path / "a.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tokens = [token.replace("\ud800", "\N{REPLACEMENT CHARACTER}") for token in odd.tokens]
    assert [row["token"] for row in rows] == tokens
    assert list(odd.to_dataframe().token) == tokens
    assert [float(row["score"]) for row in rows] == odd.scores.tolist()


def test_a_csv_file_that_cannot_be_written(result, tmp_path):
    path = result.to_csv(tmp_path / "a.csv")
    with pytest.raises(StorageError, match="exists already"):
        result.to_csv(path)
    assert result.to_csv(path, overwrite=True) == path
    with pytest.raises(StorageError, match="it is a folder; name a file"):
        result.to_csv(tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        result.to_csv(tmp_path / "missing" / "a.csv")
    with pytest.raises(InputError, match="a file must be given as str or Path, got int"):
        result.to_csv(3)
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


# SHAP


def test_values_for_shap_add_up_to_what_is_explained(signed, shap):
    explanation = signed.to_shap()
    assert np.array_equal(explanation.values, signed.contributions)
    assert explanation.base_values + explanation.values.sum() == pytest.approx(signed.explained)
    explanation.values[0] = 7.0  # its owner's
    assert signed.contributions[0] != 7.0


def test_a_tensor_without_signs_gives_shap_its_scores(explainer, texts, shap):
    a = explainer(texts[0], tensor="agf")
    explanation = a.to_shap()
    assert a.contributions is None and np.array_equal(explanation.values, a.scores)
    assert explanation.base_values == 0.0


def test_the_tokens_for_shap_are_the_text(marked_up, shap):
    assert "".join(marked_up.to_shap().data[~marked_up.special]) == MARKUP


def test_the_text_plot_of_shap_has_every_token_escaped(marked_up, shap):
    page = shap.plots.text(marked_up.to_shap(), display=False)
    assert TAGS.search(page) is None
    for i in range(len(marked_up)):
        surface = html.escape(marked_up.surface(i), quote=False).replace("&amp;", "&")
        assert f">{surface}" in page


def test_the_text_plot_of_shap_shows_a_continuation(shap):
    several = continuation_of(MARKUP)
    several = type(several)(dataclasses.replace(a, labels=(HOSTILE, "rest")) for a in several)
    explanation = several.to_shap()
    assert explanation.shape == (len(several[0]), len(several))
    page = shap.plots.text(explanation, display=False)
    assert [tag.lower() for tag in TAGS.findall(page)] == ["<script"]  # its own
    assert html.escape(HOSTILE, quote=False) in page and ">bold<" in page


def test_bars_of_shap_name_tokens_as_they_are(marked_up, shap):
    import matplotlib.pyplot as plt

    axes = shap.plots.bar(marked_up.to_shap(), max_display=len(marked_up), show=False)
    axes.figure.canvas.draw()  # "$$" would be an error of matplotlib's mathematics
    names = {label.get_text() for label in axes.get_yticklabels()}
    tokens = map(marked_up.surface, range(len(marked_up)))
    expected = {f"{token} = token {i}".replace("$", r"\$") for i, token in enumerate(tokens)}
    assert expected <= {re.sub(" +", " ", name) for name in names} and MARKUP.count("$") == 3
    plt.close(axes.figure)


def test_explanations_of_shap_can_be_sliced_and_averaged(marked_up, shap):
    explanation = marked_up.to_shap()
    assert explanation[2:4].shape == (2,) and explanation.abs.values.min() >= 0
    several = continuation_of()
    assert np.array_equal(several.to_shap()[:, 1].values, several[1].scores)


def test_nothing_flows(signed, shap):
    """Plots divide by the largest value."""
    zero = dataclasses.replace(
        signed, contributions=np.zeros(len(signed)), scores=np.zeros(len(signed))
    )
    assert not re.search(r"\bnan\b", shap.plots.text(zero.to_shap(), display=False))
    assert not zero.to_captum().word_attributions.any()


# Captum


def test_a_record_of_captum(signed):
    record = signed.to_captum("negative")
    values = record.word_attributions.numpy()
    ordinary = ~signed.special
    assert np.abs(values).max() == 1.0 and not values[signed.special].any()
    assert np.array_equal(np.sign(values[ordinary]), np.sign(signed.contributions[ordinary]))
    assert record.attr_score + record.convergence_score == pytest.approx(signed.explained)
    assert record.pred_prob == signed.probabilities.max()
    assert (record.true_class, record.attr_class) == ("negative", signed.label)


def test_a_record_of_captum_without_signs(marked_up):
    record = marked_up.to_captum()
    assert record.word_attributions.min() >= 0 and math.isnan(record.convergence_score)


def test_the_table_of_captum_is_html_with_every_token_escaped(marked_up, capsys):
    pytest.importorskip("IPython")
    from captum.attr import visualization

    records = [marked_up.to_captum(HOSTILE), *continuation_of(MARKUP).to_captum()]
    page = visualization.visualize_text(records).data
    assert TAGS.search(page) is None and page.count(html.escape(HOSTILE, quote=False)) == 3
    for i in range(len(marked_up)):
        assert f" {html.escape(marked_up.surface(i), quote=False)} " in page


# Inseq


def test_an_output_of_inseq(tmp_path):
    inseq = pytest.importorskip("inseq")
    several = continuation_of()
    output = several.to_inseq()
    output.save(str(tmp_path / "a.json"))
    (read,) = inseq.FeatureAttributionOutput.load(str(tmp_path / "a.json"))
    assert [token.token for token in read.target] == list(several[0].tokens)
    assert read.attr_pos_start == several.begins
    for step, (a, place) in enumerate(zip(several, several.explained, strict=True)):
        column = read.target_attributions[:, step].numpy()
        assert np.isnan(column[place:]).all()
        assert column[:place] == pytest.approx(a.scores[:place], rel=1e-6)
    page = output.show(display=False, return_html=True)
    assert all(token in page for token in several[0].tokens)


def test_an_output_of_inseq_with_a_source():
    pytest.importorskip("inseq")
    several = continuation_of()
    cut = 5
    several = type(several)(dataclasses.replace(a, source_tokens=cut) for a in several)
    (sequence,) = several.to_inseq()
    t = len(several[0])
    assert sequence.source_attributions.shape == (cut, len(several))
    assert sequence.target_attributions.shape == (t - cut, len(several))
    assert sequence.attr_pos_start == several.begins - cut


def test_an_output_of_inseq_needs_tokens_that_follow_each_other():
    pytest.importorskip("inseq")
    several = continuation_of()
    with pytest.raises(InputError, match="follow each other"):
        type(several)([several[0], several[2]]).to_inseq()


# Libraries that are not there


@pytest.mark.parametrize(
    ("package", "convert"),
    (
        ("pandas", lambda: attribution_of().to_dataframe()),
        ("pandas", lambda: attnflow.to_dataframe([attribution_of()])),
        ("shap", lambda: attribution_of().to_shap()),
        ("shap", lambda: continuation_of().to_shap()),
        ("captum", lambda: attribution_of().to_captum()),
        ("inseq", lambda: continuation_of().to_inseq()),
    ),
)
def test_a_missing_library_is_named_with_its_extra(package, convert, monkeypatch):
    # None stops an import. Parts that were imported already would be found by their own names.
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs .*attnflow\[{package}\]'"):
        convert()


def test_a_csv_file_needs_no_pandas(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert attribution_of().to_csv(tmp_path / "a.csv").is_file()
