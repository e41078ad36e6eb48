"""Bad input to `Explainer`: what was expected, what came, what to do; and nothing is lost."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.images import photo
from support.text_models import PROMPT, SOURCE, encoder_decoder, language_model
from support.tiny_models import build
from torch import nn
from transformers import ViTImageProcessorPil

from attnflow import Explainer, InputError, ModelError
from attnflow.cli import main

pytestmark = pytest.mark.attack


@pytest.fixture(scope="module")
def writer(reader):
    return Explainer(language_model(vocab_size=len(reader)), reader, name="writer")


@pytest.fixture
def refused(state):
    """Asks what has to be refused, in these words; the model is as it was."""

    def ask(explainer, message, *args, error=InputError, **options):
        before = state(explainer.model)
        with pytest.raises(error, match=message):
            explainer(*args, **options)
        assert state(explainer.model) == before

    return ask


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (4, "position 4 is outside the text: it has 4 tokens, 0 to 3"),
        (-5, "position -5 is outside the text"),
        (True, "position must be the index of a token, got True"),
        (1.0, r"position must be the index of a token, got 1\.0"),
        ("1", "position must be the index of a token, got '1'"),
        ([[1]], r"position must be the index of a token, got \[1\]"),
        ([0, 1], "position must be one for all or 1, like texts; got 2"),
    ],
)
def test_positions(refused, writer, position, message):
    refused(writer, message, PROMPT, position=position)


def test_one_wrong_position_of_several_is_named(refused, writer):
    texts = [PROMPT, "bad dog", PROMPT]
    refused(writer, r"text 1 \(of 3\), 'bad dog': position 2 is outside", texts, position=[2, 2, 2])
    refused(writer, "position must be one for all or 3, like texts; got 2", texts, position=[0, 0])


@pytest.mark.parametrize("continuation", ["", " ", 0, -1, True, False, 1.5, ["good"], b"good"])
def test_continuations(refused, writer, continuation):
    message = "is empty" if isinstance(continuation, str) else "at least one; got"
    refused(writer, f"continuation.*{message}", PROMPT, continuation=continuation)


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel", "a source"])
def test_continuations_that_are_longer_than_the_model_takes(refused, reader, tokenizer, kind):
    if kind == "a source":
        explainer = encoder_decoder(tokenizer, "BartForConditionalGeneration")
        text, known = SOURCE, 1
    else:
        explainer, text, known = Explainer(language_model(kind), reader), PROMPT, 4
    explainer.model.generation_config.eos_token_id = None
    most = explainer.limit - known
    assert len(explainer(text, continuation=most, tensor="cf")) == most
    message = rf"continuation={most + 1} is too long: the model takes 32 tokens, of which {known}"
    refused(explainer, message, text, continuation=most + 1)
    assert len(explainer(text, continuation=" good" * most, tensor="cf")) == most
    message = "the text with its continuation has 33 tokens and the model takes 32"
    refused(explainer, message, text, continuation=" good" * (most + 1))


def test_contrasts_of_one_thing_with_itself(refused, writer, explainer, reader, texts):
    (good,) = reader("good", add_special_tokens=False)["input_ids"]
    for target, against in (("good", good), (good, "good"), (good, good)):
        refused(writer, f"against {against!r} is what is explained", PROMPT,
                target=target, against=against)  # fmt: skip
    refused(explainer, "against 2 is what is explained", "bad", target="positive", against=2)
    refused(explainer, r"text 2 \(of 4\), 'bad': against 'POSITIVE' is what", texts,
            target=[0, 1, 2, 0], against=[1, 2, "POSITIVE", 1])  # fmt: skip
    predicted = [a.target for a in explainer(texts)]
    others = [next(c for c in range(3) if c not in (p, predicted[1])) for p in predicted]
    others[1] = predicted[1]
    refused(explainer, f"against {predicted[1]} is what is explained", texts, against=others)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("good dog", r"is not one token of this model but 2 \(\['good', 'dog'\]\)"),
        (
            "日",
            r"'日' is not a token that this model knows: its tokenizer makes \['\[UNK\]'\] of it",
        ),
        ("", r"'' is not a token that this model knows: its tokenizer makes \[\] of it"),
        (-1, "token -1 is not in the vocabulary"),
        (10**6, "token 1000000 is not in the vocabulary of this model, which ends at"),
        (True, "a target must be a token, as text or id, got True"),
        ([], "target must be one for all or 1"),
    ],
)
def test_tokens_that_the_vocabulary_lacks(refused, writer, target, message):
    refused(writer, message, PROMPT, target=target)
    if not isinstance(target, list):
        refused(writer, message, PROMPT, target="bad", against=target)
        refused(writer, rf"text 1 \(of 2\), .*{message}", [PROMPT] * 2, target=["bad", target])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(gap=5), r"gap must lie inside \(0, 1\), got 5"),
        (dict(mu=-1.0), "mu must be finite and > 0, got -1.0"),
        (dict(mu=True), "mu must be a number > 0, got True"),
        (dict(mu="1"), "mu must be a number > 0, got '1'"),
        (dict(max_memory="much"), "max_memory must be bytes > 0.*got 'much'"),
        (dict(max_memory=0), "max_memory must be bytes > 0.*got 0"),
    ],
)
def test_accuracy_and_memory_are_checked_before_the_model_runs(writer, options, message):
    passes = []
    hook = writer.model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(InputError, match=message):
        writer(PROMPT, continuation=2, **options)
    hook.remove()
    assert not passes


@pytest.mark.parametrize("ids", ([5, -1], [[5], [6, 10**6]], [5, 10**30], torch.tensor([-100])))
def test_ids_outside_the_vocabulary(refused, writer, ids):
    message = r"input_ids has .*, which is not a token of LlamaForCausalLM: expected 0 to \d+"
    refused(writer, message, input_ids=ids)
    refused(Explainer(writer.model), message, input_ids=ids)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 0, 1], [1, 1, 1]], "row 0 of input_ids has padding between its tokens"),
        ([[0, 1, 1], [0, 0, 0]], "input_ids has no token in row 1: drop empty examples"),
        ([[1, 1], [1, 1]], "attention_mask must have the shape of input_ids"),
        ([1, 1, 1], "attention_mask must have the shape of input_ids"),
        ([[0.5, 1, 1]] * 2, "attention_mask must be integers"),
    ],
)
def test_masks(refused, writer, mask, message):
    refused(writer, message, input_ids=[[5, 6, 7], [7, 8, 9]], attention_mask=mask)


def test_an_attention_mask_goes_with_ids_alone(refused, writer):
    refused(writer, "attention_mask goes with input_ids", PROMPT, attention_mask=[[0, 1, 1, 1]])
    padded = writer(input_ids=[[-100, 5, 6]], attention_mask=[[0, 1, 1]], tensor="cf")
    assert padded[0].tokens == writer(input_ids=[5, 6], tensor="cf").tokens, "padding is not read"


@pytest.mark.parametrize("span", [(3, 1), (2, 2), (0, 1), (4, 5), (1, 5), (-3, -1)])
def test_spans(refused, writer, span):
    refused(writer, r"is not in the text: expected 1 <= start < stop <= 4", PROMPT, span=span)
    refused(writer, r"text 1 \(of 2\), .*span", [f"{PROMPT} good dog", PROMPT], span=[(1, 2), span])


def test_pairs_of_texts_where_one_is_read(refused, writer, tokenizer):
    message = "pair is for models that read two texts; this one is for text-generation"
    refused(writer, message, PROMPT, pair="a dog")
    refused(writer, f"^{message}", [PROMPT, "bad"], pair=["a dog", "bad"])
    two = encoder_decoder(tokenizer)(SOURCE, pair="a dog", tensor="cf")
    assert two.text == f"{SOURCE}\na dog"


class Elsewhere(nn.Parameter):
    """A parameter that says it lies on another device, of which a test may have none."""

    device = property(lambda self: torch.device("cuda:1"))


def one_weight(change):
    """Changes one weight of a model that is read after all others."""

    def broken(model):
        module = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        module.weight = change(module.weight.detach())
        return model

    return broken


def untrainable(model):
    config = SimpleNamespace(quant_method="a_new_one")
    model.hf_quantizer = SimpleNamespace(is_trainable=False, quantization_config=config)
    return one_weight(lambda w: nn.Parameter(w.to(torch.int8), requires_grad=False))(model)


BROKEN = {
    "in training": (lambda model: model.train(), r"training mode.*call model\.eval\(\)"),
    "without weights": (lambda model: model.to("meta"), "meta device, that is, none"),
    "without one": (one_weight(lambda w: nn.Parameter(w.to("meta"))), "meta device"),
    "on two devices": (one_weight(Elsewhere), r"one device, not on cpu, cuda:1"),
    "of integers": (
        one_weight(lambda w: nn.Parameter(w.to(torch.int8), requires_grad=False)),
        "quantised weights that no backend.*load the model that it was made from",
    ),
    "of a backend without gradients": (untrainable, "quantised by a_new_one, which hands no grad"),
}


@pytest.fixture(params=["classifier", "embedder", "writer", "encoder-decoder", "sight"])
def asked(request, tiny, tokenizer, reader):
    """An explainer of each kind, and what it is asked that has the model run."""
    if request.param == "classifier":
        return Explainer(tiny(), tokenizer), dict(texts=["a dog", "bad"])
    if request.param == "embedder":  # the other text is embedded first
        return Explainer(tiny(head=None), tokenizer), dict(texts="a dog", pair="bad")
    if request.param == "writer":  # it writes first
        return Explainer(language_model(), reader), dict(texts=PROMPT, continuation=2)
    if request.param == "encoder-decoder":
        return encoder_decoder(tokenizer), dict(texts=SOURCE, continuation=2)
    processor = ViTImageProcessorPil(size={"height": 6, "width": 8})
    return Explainer(build("vit"), processor), dict(images=photo())


@pytest.mark.parametrize("kind", BROKEN)
def test_models_are_refused_before_they_run(refused, asked, kind):
    explainer, options = asked
    breaks, message = BROKEN[kind]
    breaks(explainer.model)
    explainer.model.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    refused(explainer, message, error=ModelError, **options)


# The command


CHATS = [
    ([{"role": "user"}], "message 0 must have a content that is a string"),
    ([{"content": "a dog"}], "message 0 must have a role that is a string"),
    ([{"role": "user", "content": ""}], "every message of the chat is empty"),
    ([{"role": "tool", "content": "a"}], "template refuses these messages: unknown role tool"),
    ([], "is not a chat"),
]
TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}{{ m.content }}[SEP]{% endfor %}"
)


@pytest.fixture(scope="module")
def saved(writer, tmp_path_factory):
    """Folders of a language model: with a chat template, and without."""
    found = []
    for template in (TEMPLATE, None):
        folder = tmp_path_factory.mktemp("saved")
        writer.model.save_pretrained(folder)
        writer.tokenizer.chat_template = template
        writer.tokenizer.save_pretrained(folder)
        found.append(str(folder))
    return found


@pytest.fixture
def command(saved, tmp_path, capsys):
    """Runs `explain` over files that are there; it fails, and they are as they were."""

    def explain(*arguments, model=saved[0]):
        outputs = [tmp_path / name for name in ("a.json", "a.html", "a.safetensors")]
        for file in outputs:
            file.write_text("before")
        there = sorted(tmp_path.iterdir())
        options = zip(("--json", "--html", "--save"), map(str, outputs), strict=True)
        own = ["explain", *arguments, "--model", model, "--overwrite", *sum(options, ())]
        try:
            code = main(own)
        except SystemExit as refusal:
            code = refusal.code
        out, err = capsys.readouterr()
        assert code == 2 and out == "" and "Traceback" not in err
        assert [file.read_text() for file in outputs] == ["before"] * 3
        assert sorted(tmp_path.iterdir()) == there
        return err

    return explain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--position", "4"], "position 4 is outside the text"),
        (["--position=-5"], "position -5 is outside the text"),
        (["--position", "1.5"], "invalid int value: '1.5'"),
        (["--continuation", ""], "the continuation '' is empty"),
        (["--max-new-tokens", "99"], "Let it write fewer (--max-new-tokens)"),
        (["--max-new-tokens", "2", "--target", "good"], "(target=, --target; continuation=, "),
        (["--max-new-tokens", "0"], "expected an integer of at least 1, got 0"),
        (["--span", "3:1"], "span (3, 1) is not in the text"),
        (["--span", "2:2"], "span (2, 2) is not in the text"),
        (["--span=-2:1"], "expected A:B, two indices of tokens, or all"),
        (["--span", "all"], "span=True is the whole continuation (--span all): give one"),
        (["--target", "good dog"], "not one token of this model but 2"),
        (["--target", "日"], "is not a token that this model knows"),
        (["--target", ""], "is not a token that this model knows"),
        (["--target", "good", "--against", "good"], "no contrast with itself"),
        (["--pair", "a dog"], "pair is for models that read two texts"),
        (["--image", "photo.png"], "cannot read image photo.png"),
    ],
)
def test_the_command_loses_no_file(command, arguments, message):
    assert message in command(PROMPT, *arguments)


@pytest.mark.parametrize(("messages", "message"), CHATS)
def test_chats_of_the_command(command, tmp_path, messages, message):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(messages), encoding="utf-8")
    assert message in command("--chat", str(file))


def test_a_chat_without_a_template(command, saved, tmp_path):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps([{"role": "user", "content": "a dog"}]), encoding="utf-8")
    assert "no chat template" in command("--chat", str(file), model=saved[1])


def test_a_quantised_model_of_the_command(command, saved, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    explainer = Explainer.from_pretrained(saved[1])
    explainer.model.save_pretrained(folder)
    explainer.tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert "cannot load model" in command(PROMPT, model=str(folder))


def test_a_model_of_images_without_an_image(refused):
    explainer = Explainer(build("vit"))
    refused(explainer, "give images or pixel_values, one of the two")
    for values in (torch.zeros(3, 8, 6), torch.zeros(1, 6, 8), torch.full((3, 6, 8), np.nan)):
        refused(explainer, "pixel_values: ", pixel_values=values)
