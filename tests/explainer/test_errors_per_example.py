"""An error about one text or image of several says which."""

import pytest
import torch
from support.images import photo, processor_of
from support.text_models import encoder_decoder, language_model
from support.tiny_models import build

from attnflow import Explainer, InputError
from attnflow.capture.objectives import LONGEST_ANSWER

pytestmark = pytest.mark.attack

QUESTIONS = ["was it dull?", "was the dog bad?"]
CONTEXTS = ["the film is not good", "the dog was never bad"]


@pytest.fixture(scope="module")
def asked(tiny, tokenizer):
    return Explainer(tiny(head="QuestionAnswering", labels=("start", "end")), tokenizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pair=CONTEXTS, target="film"), "target 'film' is not an answer"),
        (dict(pair=CONTEXTS, target=["good", "good"]), "target 'good' is not an answer"),
        (dict(pair=CONTEXTS, target=[None, 3]), "must be an answer"),
        (dict(pair=CONTEXTS, against="film"), "'film' is not an answer"),
        (dict(pair=[CONTEXTS[0], None]), "answered from a second text"),
        (dict(pair=CONTEXTS, target=["film", "dog"], against=["good", "dog"]), "contrast with its"),
        (dict(pair=CONTEXTS, position=[None, 2]), "leave position out"),
    ],
)
def test_a_question_that_cannot_be_answered(asked, options, message):
    with pytest.raises(InputError, match=rf"text 1 \(of 2\), 'was the dog bad.*{message}"):
        asked(QUESTIONS, **options)


def test_an_answer_that_is_too_long(tiny, tokenizer):
    model = tiny(head="QuestionAnswering", max_position_embeddings=64)
    long = "dog " * (LONGEST_ANSWER + 1)
    target = [long[: 4 * LONGEST_ANSWER - 1], long[:-1]]
    with pytest.raises(InputError, match=r"text 1 \(of 2\), 'bad.*expected 1 to 30 whole tokens"):
        Explainer(model, tokenizer)(["bad", "bad"], pair=long, target=target)


def test_an_error_common_to_all_examples_names_none(asked, explainer):
    for call in (
        lambda: explainer(["bad", "a dog"], target="class"),
        lambda: explainer(["bad", "a dog"], target=1, against=1),
        lambda: asked(QUESTIONS[:1], pair=CONTEXTS[:1], target="cat"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert not str(error.value).startswith("text ")


def test_a_class_that_one_text_asks_for(explainer):
    with pytest.raises(InputError, match=r"text 1 \(of 2\), 'a dog': target 'x' is not a class"):
        explainer(["bad", "a dog"], target=["positive", "x"])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_contrast_with_what_turns_out_to_be_predicted(explainer, batch_size):
    # The longest is read first.
    texts = ["bad", "a smart dog is never dull", "the film"]
    predicted = [a.target for a in explainer(texts, tensor="af")]
    against = [(one + 1) % 3 for one in predicted[:2]] + predicted[2:]
    with pytest.raises(InputError, match=r"text 2 \(of 3\), 'the film': against \d is what is"):
        explainer(texts, against=against, batch_size=batch_size)


def test_texts_of_language_models(reader):
    explainer = Explainer(language_model(), reader)
    texts = ["the dog is not good", "a dog"]
    named = r"text 1 \(of 2\), 'a dog': "
    for options, message in (
        (dict(position=3), "position 3 is outside the text"),
        (dict(span=(1, 3)), r"span \(1, 3\) is not in the text"),
        (dict(target=["good", "good dog"]), "is not one token"),
        (dict(span=[(1, 2), True]), "span=True is the whole continuation"),
    ):
        with pytest.raises(InputError, match=named + ".*" + message):
            explainer(texts, **options)
    limit = explainer.limit
    long = ["a dog", "dog " * (limit - 2)]
    for given in (
        dict(continuation=" good dog bad"),
        dict(continuation=" good dog bad", span=True),
    ):
        with pytest.raises(InputError, match=rf"text 1 \(of 2\), 'dog dog.*{limit + 1} tokens"):
            explainer(long, **given)
    with pytest.raises(InputError, match=rf"text 1 \(of 2\): input_ids has {limit + 1} tokens"):
        explainer(input_ids=[[5], [5] * (limit + 1)])


def test_texts_of_other_models(tiny, tokenizer):
    masked = Explainer(tiny(head="MaskedLM"), tokenizer)
    with pytest.raises(InputError, match=r"text 1 \(of 2\), 'bad': the text has 0 tokens"):
        masked(["a [MASK] dog", "bad"])
    with pytest.raises(InputError, match=r"text 0 \(of 2\), 'the dog': position 0 is in the so"):
        encoder_decoder(tokenizer)(["the dog", "bad"], position=[0, 4])
    embedder = Explainer(tiny(head=None), tokenizer)
    with pytest.raises(InputError, match=r"text 1 \(of 2\), 'bad': .*a text to compare with"):
        embedder(["a dog", "bad"], pair=["the film", None])
    with pytest.raises(InputError, match=r"text 1 \(of 2\), 'bad': the text is empty"):
        embedder(["a dog", "bad"], pair=["the film", " "])


def test_images(tmp_path):
    explainer = Explainer(build("vit"))
    values = torch.zeros(2, 3, 6, 8)
    values[1, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"image 1 \(of 2\): pixel_values: .* not finite"):
        explainer(pixel_values=values)
    with pytest.raises(InputError, match=r"image 1 \(of 2\): target 9 is not a class"):
        explainer(pixel_values=values.nan_to_num(), target=[1, 9])
    (tmp_path / "broken.png").write_text("no image")
    seeing = Explainer(explainer.model, processor_of(explainer.model))
    with pytest.raises(InputError, match=r"image 1 \(of 2\), 'broken.png': .*Pillow can read"):
        seeing(images=[photo(), tmp_path / "broken.png"])


def test_estimates_name_them_too(explainer):
    with pytest.raises(InputError, match=r"text 1 \(of 2\), 'dog dog"):
        explainer.estimate(["bad", "dog " * 40])
