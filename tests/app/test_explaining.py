"""The requests of the app inside the worker: choices besides the target, images, chats, the end."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import photo, tiny_vit
from support.text_models import bare, language_model, tiny_model, wordpiece
from support.tiny_vlms import build_vlm, picture
from support.tiny_vlms import processor_of as vlm_processor_of

from attnflow import Explainer, InputError
from attnflow.app.asked import Asked
from attnflow.app.explaining import described, explain
from attnflow.app.worker import Cancelled, Worker, _Notes
from attnflow.progress import bar, heard_by

pytestmark = pytest.mark.filterwarnings("ignore")
TEXT = "the dog is not cute"
SIX = tuple("abcdef")
TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"


def silent(part, words):
    pass


def run(explainer, image=None, **asked):
    return explain(explainer, Asked(model="m", **asked), image, silent)


@pytest.fixture(scope="module")
def classifier():
    return Explainer(tiny_model(), wordpiece())


@pytest.fixture(scope="module")
def writer():
    return Explainer(language_model(), bare(wordpiece()))


def test_all_of_few_classes_are_explained_the_asked_one_first(classifier):
    labels = classifier.labels
    found = run(classifier, text=TEXT, target=labels[1])
    assert [a.label for a in found.attributions][0] == labels[1]
    assert {a.label for a in found.attributions} == set(labels)
    alone = classifier(TEXT, target=labels[1], edges=True)
    np.testing.assert_array_equal(found.attributions[0].scores, alone.scores)
    assert all(a.edges is not None for a in found.attributions)


def test_the_likeliest_of_many_classes_are_explained():
    explainer = Explainer(tiny_model(labels=SIX), wordpiece())
    found = run(explainer, text=TEXT, others=2).attributions
    order = np.argsort(-found[0].logits)
    assert [a.target for a in found] == order[:3].tolist()


def test_a_contrast_is_explained_alone(classifier):
    one, other = classifier.labels[:2]
    (found,) = run(classifier, text=TEXT, target=one, against=other).attributions
    assert found.labels[found.against] == other


def test_the_likeliest_next_tokens_are_explained(writer):
    found = run(writer, text="the dog is", others=2).attributions
    assert len(found) == 3 and len({a.label for a in found}) == 3
    probabilities = [a.probabilities[a.target] for a in found]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_continuation_is_explained_token_by_token(writer):
    found = run(writer, text="the dog is", new_tokens=3)
    assert found.is_continuation and 1 <= len(found.attributions) <= 3


def test_a_chat_has_its_messages(writer):
    tokenizer = bare(wordpiece())
    tokenizer.chat_template = TEMPLATE
    explainer = Explainer(writer.model, tokenizer)
    assert described(explainer)["has_chat"] and not described(writer)["has_chat"]
    found = run(explainer, text="is it cute", is_chat=True, system="the dog", others=0)
    assert found.attributions[0].roles == ("system", "user")


def test_an_image_is_explained(tmp_path):
    file = tmp_path / "cat.png"
    Image.fromarray(photo()).save(file)
    explainer = tiny_vit()
    assert described(explainer)["reads_images"] and not described(explainer)["reads_text"]
    found = run(explainer, file).attributions
    assert found[0].grid is not None and found[0].text == "cat.png"
    with pytest.raises(InputError, match="drop one"):
        run(explainer, text="no image")


def test_a_question_about_an_image_is_explained(tmp_path):
    file = tmp_path / "cat.png"
    Image.fromarray(picture()).save(file)
    explainer = Explainer(build_vlm("llava"), vlm_processor_of("llava"))
    assert described(explainer)["reads_images"] and described(explainer)["reads_text"]
    for is_chat in (False, True):
        found = run(explainer, file, text="what is this ?", is_chat=is_chat, others=0)
        assert found.attributions[0].regions is not None


def test_an_image_for_a_model_of_texts_is_refused(classifier):
    with pytest.raises(InputError, match="reads texts, not images"):
        run(classifier, Path("cat.png"), text=TEXT)


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_empty_text_is_refused(classifier, text):
    with pytest.raises(InputError, match="type or paste"):
        run(classifier, text=text)


def test_progress_rises_to_all_of_the_decisions(classifier):
    parts = []
    explain(classifier, Asked("m", TEXT), None, lambda part, words: parts.append(part))
    assert parts == sorted(parts) and parts[0] == 0 and parts[-1] == pytest.approx(1)
    assert len(parts) > 4


def test_a_listener_ends_the_work():
    told = []

    def listen(done, total, unit):
        told.append((done, total, unit))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled), heard_by(listen), bar(5, unit="text") as advance:
        for _ in range(5):
            advance(1)
    assert told == [(0, 5, "text"), (1, 5, "text"), (2, 5, "text")]


@pytest.fixture
def worker(classifier):
    made = Worker(io.StringIO())
    made.explainers["m"] = classifier
    return made


def answers(worker):
    return [json.loads(line) for line in worker._answers.getvalue().splitlines()]


def order(folder, *, job=1, **asked):
    record = {"model": "m", "text": TEXT} | asked
    return {
        "job": job,
        "do": "explain",
        "asked": record,
        "image": None,
        "folder": str(folder),
        "loading": {},
    }


def test_a_worker_leaves_a_cancelled_job_at_its_next_step(worker, tmp_path, monkeypatch):
    steps = []
    tell = worker._progress

    def cancel_at_the_second(part, words):
        steps.append(part)
        worker._cancelled = 1 if len(steps) == 2 else 0
        tell(part, words)

    monkeypatch.setattr(worker, "_progress", cancel_at_the_second)
    worker._do(order(tmp_path))
    assert answers(worker)[-1]["is"] == "cancelled" and len(steps) == 2
    assert not list(tmp_path.iterdir())
    worker._do(order(tmp_path, job=2))
    assert answers(worker)[-1]["is"] == "done" and list(tmp_path.iterdir())


def test_a_worker_goes_on_after_what_nobody_expected(worker, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError("no reason")

    with monkeypatch.context() as patched:
        patched.setattr("attnflow.app.explaining.explain", broken)
        worker._do(order(tmp_path))
    failed = answers(worker)[-1]
    assert failed["is"] == "failed" and "ZeroDivisionError: no reason" in failed["message"]
    assert "Traceback" in capsys.readouterr().err
    worker._do(order(tmp_path))
    assert answers(worker)[-1]["is"] == "done"


def test_a_worker_says_why_it_refuses(worker, tmp_path):
    worker._do(order(tmp_path, target="no such class"))
    assert (
        answers(worker)[-1]["is"] == "failed" and "no such class" in answers(worker)[-1]["message"]
    )


def test_messages_of_the_library_become_notes(worker):
    worker._job = 3
    log = logging.getLogger("attnflow")
    handler = _Notes(worker._tell)
    log.addHandler(handler)
    try:
        log.warning("compiling the solver")
    finally:
        log.removeHandler(handler)
    assert answers(worker) == [{"job": 3, "is": "note", "words": "compiling the solver"}]
