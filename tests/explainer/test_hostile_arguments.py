"""Arguments that no check expected: each is refused by its name, in a line of readable length."""

import inspect

import pytest
import torch
from support.hostile_values import faults

import attnflow
from attnflow import Explainer, InputError
from attnflow.errors import shown
from attnflow.explainer.targets.output_space import Vocabulary, class_index

pytestmark = pytest.mark.attack

TEXT = "a good dog"


def refused(call, *args, **kwargs):
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    message = str(error.value)
    assert "\n" not in message and len(message) < 600, message
    return error.value


def keywords(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", keywords(Explainer.__call__))
@pytest.mark.parametrize("kind", ("explainer", "writer"))
def test_every_argument_of_a_call(request, kind, keyword):
    explain = request.getfixturevalue(kind)
    examples = {"texts", "input_ids", "images", "pixel_values"}
    base = {} if keyword in examples else {"texts": TEXT}
    if keyword == "attention_mask":
        base = {"input_ids": [[2, 5, 3, 0]]}
    if keyword == "span" and kind == "writer":
        base["continuation"] = 1

    assert faults(lambda **given: explain(**base, **given), keyword) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", keywords(Explainer.estimate))
def test_every_argument_of_an_estimate(explainer, keyword):
    examples = {"texts", "images", "pixel_values"}
    base = {} if keyword in examples else {"texts": TEXT}

    assert faults(lambda **given: explainer.estimate(**base, **given), keyword) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", keywords(Explainer.__init__))
def test_every_argument_of_an_explainer(tiny, tokenizer, keyword):
    base = {"model": tiny(), "processor": None if keyword == "tokenizer" else tokenizer}

    assert faults(lambda **given: Explainer(**base | given), keyword) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", keywords(Explainer.from_pretrained))
def test_every_argument_of_loading(keyword):
    assert faults(Explainer.from_pretrained, keyword) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", ("attributions", "file"))
def test_every_argument_of_saving(explainer, tmp_path, monkeypatch, keyword):
    monkeypatch.chdir(tmp_path)
    base = {"attributions": [explainer(TEXT, tensor="cf")], "file": "saved.attnflow"}

    assert faults(lambda **given: attnflow.save(**base | given, overwrite=True), keyword) == []


@pytest.mark.filterwarnings("ignore")
def test_every_argument_of_reading(explainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attribution = explainer(TEXT)

    assert faults(attnflow.load, "file") == []
    assert faults(attribution.top, "k") == faults(attribution.top_against, "k") == []
    assert faults(lambda file: attribution.to_html(file, overwrite=True), "file") == []


@pytest.mark.filterwarnings("ignore")
def test_every_argument_of_a_conversion(explainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attribution = explainer(TEXT)

    assert faults(attnflow.to_dataframe, "results") == []
    assert faults(attribution.to_captum, "true_label") == []
    assert faults(lambda file: attribution.to_csv(file, overwrite=True), "file") == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", keywords(attnflow.batch_function)[:-1])  # the last: **options
def test_every_argument_of_a_batch_function(explainer, keyword):
    def call(**given):
        attnflow.batch_function(**{"explainer": explainer} | given)({"text": [TEXT]})

    assert faults(call, keyword) == []


@pytest.mark.parametrize(
    ("options", "said"),
    (
        ({"target": "9" * 5000}, "target '999"),
        ({"target": 10**5000}, "target an integer of thousands of digits"),
        ({"target": 10**400}, "target 1000"),
        ({"mu": 10**400}, "mu must be a number that a float holds"),
        ({"mu": 10**5000}, "mu must be a number that a float holds"),
        ({"tensor": "x" * 10**6}, "tensor must be one of"),
        ({"progress": 5}, "progress must be a function"),
    ),
)
def test_options(explainer, options, said):
    assert said in str(refused(explainer, TEXT, **options))


@pytest.mark.parametrize(
    ("ids", "said"),
    (
        ([True, False], "input_ids must be integers"),
        (torch.tensor([[True, True]]), "input_ids must be integers"),
        (
            torch.ones(1, 3, dtype=torch.long, device="meta"),
            "input_ids must be a dense tensor",
        ),
        ([10**5000, 0.5], "input_ids must be integers"),
    ),
)
def test_token_ids(explainer, ids, said):
    assert said in str(refused(explainer, input_ids=ids))


def test_a_mask_of_truth_values_is_one(explainer):
    mask = torch.tensor([[True, True, True, False]])
    found = explainer(input_ids=[[2, 5, 3, 0]], attention_mask=mask, tensor="cf")
    assert len(found[0].tokens) == 3


def test_an_unknown_keyword_is_named(explainer):
    with pytest.raises(TypeError, match="'evil'"):
        explainer(TEXT, evil=1)


def test_half_of_a_surrogate_pair_as_a_token(tokenizer):
    error = refused(Vocabulary(tokenizer, 10).index, "\ud800")
    assert "target is not valid Unicode" in str(error)


def test_a_target_that_raises_is_the_cause_of_an_error_about_its_text(explainer):
    def broken(output):
        return 1 / 0

    error = refused(explainer, [TEXT, "a film"], target=broken, tensor="cf")
    assert "(of 2)" in str(error) and "target, a function, raised ZeroDivisionError" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(("chosen", "expected"), (("cuda:0", "cuda"), ("meta", "cpu")))
def test_a_target_makes_its_tensors_where_its_caller_does(explainer, chosen, expected):
    seen = []

    def target(output):
        seen.append(torch.get_default_device().type)
        return output.logits[:, 0]

    with torch.device(chosen):
        explainer(TEXT, target=target, tensor="cf")

    assert set(seen) == {expected}


def test_an_error_of_progress_is_the_users_own(explainer):
    def broken(count):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        explainer(TEXT, tensor="cf", progress=broken)
    assert explainer(TEXT, tensor="cf").scores is not None


def test_a_hundred_thousand_labels_are_not_all_listed():
    labels = [f"LABEL_{i}" for i in range(100_000)]
    error = refused(class_index, "none", labels)
    assert "and 99980 more, or an index from 0 to 99999" in str(error)
    assert class_index("99999", labels) == 99_999


def test_pixels_without_numbers(tiny):
    model = tiny("ViT", head="ImageClassification", image_size=8, patch_size=4, num_channels=1)
    pixels = torch.ones(1, 1, 8, 8, device="meta")
    error = refused(Explainer(model, name="vit"), pixel_values=pixels)
    assert "pixel_values must be a dense tensor with numbers, got a meta one" in str(error)


def test_long_values_are_shortened():
    assert shown("a" * 100, 10) == "'aaaaaaaaa…"
    assert shown([1, 2]) == "[1, 2]"
