"""Explained chats: the message of each token, and the tokens of the template."""

import copy
import json

import numpy as np
import pytest
from support.text_models import CHAT_TEMPLATE, language_model

from attnflow import Explainer, InputError, load, save
from attnflow.cli import main
from attnflow.inputs.chat import encode_chat

TRIMMING = CHAT_TEMPLATE.replace("m['content']", "m['content'] | trim")
# As Mistral's: the system's words stand in front of the last user's.
FOLDING = (
    "{% set first = messages[0] %}{% for m in messages[1:] %}[CLS]{% if loop.last and "
    "first.role == 'system' %}{{ first.content }}\n\n{% endif %}{{ m.content }}[SEP]{% endfor %}"
)
LOOKING = CHAT_TEMPLATE.replace("m['content']", "m['content'].split('!')[-1]")
REFUSING = "{{ raise_exception('roles must alternate') }}"
CHAT = [
    {"role": "system", "content": "a dog is smart"},
    {"role": "user", "content": "is the film good?"},
]


@pytest.fixture(scope="module")
def chatting(reader):
    """An explainer whose tokenizer has this template."""

    def make(template=CHAT_TEMPLATE):
        own = copy.deepcopy(reader)
        own.chat_template = template
        return Explainer(language_model(max_position_embeddings=96), own, name="chatting")

    return make


def said(a, message):
    """The surfaces of a message's tokens."""
    return [a.surface(i) for i, m in enumerate(a.message_ids) if m == message]


def test_every_token_knows_its_message(chatting):
    explainer = chatting()
    a = explainer(CHAT)
    whole = explainer.tokenizer.apply_chat_template(
        CHAT, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert list(a.tokens) == explainer.tokenizer.convert_ids_to_tokens(whole)
    assert a.roles == ("system", "user") and len(a.message_ids) == len(a)
    assert a.text == "a dog is smart\nis the film good?"
    assert said(a, 0) == ["a", "dog", "is", "smart"]
    assert said(a, 1)[:4] == ["is", "the", "film", "good"]
    assert [m is None for m in a.message_ids] == a.special.tolist()
    assert a.position == len(a) - 1 and a.task == "text-generation"
    assert len(a.top(99)) == len(said(a, 0) + said(a, 1))  # the template's are not ranked
    assert all(start < end for (start, end), s in zip(a.offsets, a.special, strict=True) if not s)


def test_contents_that_look_like_the_template(chatting):
    messages = [{"role": "user", "content": word} for word in ("user", "assistant", "user")]
    a = chatting()(messages)
    assert a.text == "user\nassistant\nuser"
    assert ["".join(said(a, k)) for k in range(3)] == ["user", "assistant", "user"]


def test_a_template_that_strips(chatting):
    a = chatting(TRIMMING)([CHAT[0], {"role": "user", "content": "\n  a bad film \n"}])
    assert a.text == "a dog is smart\na bad film" and said(a, 1) == ["a", "bad", "film"]


def test_a_template_with_an_order_of_its_own(chatting):
    messages = [*CHAT, {"role": "assistant", "content": "never"}, {**CHAT[1], "content": "bad"}]
    a = chatting(FOLDING)(messages)
    assert a.text == "is the film good?\nnever\na dog is smart\nbad"
    assert said(a, 0) == ["a", "dog", "is", "smart"] and said(a, 3) == ["bad"]


def test_a_template_that_looks_into_contents(chatting):
    explainer = chatting(LOOKING)
    assert said(explainer([{"role": "user", "content": "a dog"}]), 0) == ["a", "dog"]
    with pytest.raises(InputError, match=r"template changes message 0 \('good!bad'\)"):
        explainer([{"role": "user", "content": "good!bad"}])


def test_a_template_that_leaves_a_message_out(chatting):
    with pytest.warns(UserWarning, match=r"leaves message 0 \(system\) out") as caught:
        a = chatting("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")(CHAT)
    assert caught[0].filename == __file__, "the warning is about the caller's line"
    assert a.text == CHAT[1]["content"] and set(a.message_ids) == {1}


def test_the_answer_is_a_message_of_its_own(chatting):
    explainer = chatting()
    found = explainer(CHAT, continuation="the film is bad", tensor="cf")
    assert [a.label for a in found] == ["the", "film", "is", "bad"]
    a = found[-1]
    assert a.roles == ("system", "user", "assistant")
    assert said(a, 2) == ["the", "film", "is", "bad"]
    assert a.text.splitlines()[-1] == "the film is bad"
    assert explainer(CHAT, continuation=2, tensor="cf")[0].roles[-1] == "assistant"
    np.testing.assert_allclose(
        explainer(CHAT, continuation="the", tensor="cf")[0].scores[: found[0].position + 1],
        found[0].scores[: found[0].position + 1],
        rtol=1e-4,
        atol=1e-7,
    )


def test_the_assistant_goes_on_with_its_own_message(chatting):
    chat = [*CHAT, {"role": "assistant", "content": "it was"}]
    explainer = chatting()
    (a,) = explainer(chat, continuation=" dull", tensor="cf")
    assert a.roles == ("system", "user", "assistant") and said(a, 2) == ["it", "was", "dull"]
    assert a.tokens[a.position] == "was" and a.text.endswith("\nit was dull")


def test_several_chats_and_texts(chatting):
    explainer = chatting()
    found = explainer([CHAT, CHAT[1:], "a smart dog"], tensor="cf")
    assert [a.roles for a in found] == [("system", "user"), ("user",), ()]
    alone = explainer(CHAT[1:], tensor="cf")
    np.testing.assert_allclose(found[1].scores, alone.scores, rtol=2e-4, atol=1e-7)
    assert found[1].message_ids == alone.message_ids and found[2].message_ids == ()
    with pytest.raises(InputError, match=r"text 1 \(of 2\).*: message 0 must have a role"):
        explainer([CHAT, [{"content": "a"}]])


def test_a_classifier_reads_whole_chats(tiny, chatting):
    explainer = Explainer(tiny(max_position_embeddings=96), chatting().tokenizer)
    a = explainer([*CHAT, {"role": "assistant", "content": "it was dull"}])
    assert said(a, 2) == ["it", "was", "dull"] and a.tokens[-1] == "[SEP]"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user"}], "message 0 must have a content that is a string"),
        ([CHAT[0], {"content": "a"}], "message 1 must have a role that is a string"),
        ([CHAT[0], {"role": "user", "content": [{"type": "text"}]}], "message 1 must have a con"),
        ([CHAT[0], "a dog"], "message 1 must be a dict"),
        ([{"role": "user", "content": " "}], "every message of the chat is empty"),
        ([{"role": "user", "content": "good " * 99}], "the chat has .* the model takes 96"),
        ([{"role": "user", "content": "\ue0000\ue001"}], "leave them out"),
    ],
)
def test_malformed_chats(chatting, messages, message):
    with pytest.raises(InputError, match=message):
        chatting()(messages)


def test_a_chat_may_be_as_long_as_the_model_takes(chatting):
    explainer = chatting()
    t = len(explainer(CHAT, tensor="cf"))
    assert len(encode_chat(explainer.tokenizer, CHAT, limit=t, generates=True).tokens) == t
    with pytest.raises(InputError, match=f"has {t} tokens and the model takes {t - 1}"):
        encode_chat(explainer.tokenizer, CHAT, limit=t - 1, generates=True)


def test_templates_that_cannot_be_used(chatting, tiny):
    with pytest.raises(InputError, match="no chat template.*set tokenizer.chat_template"):
        chatting(None)(CHAT)
    with pytest.raises(InputError, match="refuses these messages: roles must alternate"):
        chatting(REFUSING)(CHAT)
    with pytest.raises(InputError, match="pair is for models that read two texts"):
        chatting()(CHAT, pair="a dog")
    classifier = Explainer(tiny(max_position_embeddings=96), chatting().tokenizer)
    with pytest.raises(InputError, match="a chat is a text by itself"):
        classifier(CHAT, pair="a dog")


@pytest.fixture(scope="module")
def saved(chatting, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chatting")
    own = chatting()
    own.model.save_pretrained(folder)
    own.tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_command_reads_a_chat(saved, tmp_path, capsys):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(CHAT), encoding="utf-8")
    out = tmp_path / "a.json"
    own = ["explain", "--chat", str(file), "--model", saved, "--tensor", "cf"]
    assert main([*own, "--json", str(out)]) == 0
    assert "system: a" in capsys.readouterr().out
    assert json.loads(out.read_text())[0]["roles"] == ["system", "user"]
    assert main([*own, "--continuation", "the film", "--span", "all"]) == 0
    shown = capsys.readouterr().out
    assert "assistant: the film" in shown and "2 tokens after" in shown
    assert main([*own, "--attention-sink", "exclude"]) == 0
    assert "before it was excluded" in capsys.readouterr().out


def test_the_command_refuses_what_is_no_chat(tmp_path, capsys):
    file = tmp_path / "chat.json"
    for content, message in (
        ("{", "is not JSON"),
        ('["a"]', "is not a chat"),
        ("[]", "is not a chat"),
    ):
        file.write_text(content, encoding="utf-8")
        assert main(["explain", "--chat", str(file)]) == 2
        assert message in capsys.readouterr().err
    assert main(["explain", "a text", "--chat", str(file)]) == 2
    assert "--chat alone" in capsys.readouterr().err
    assert main(["explain", "--chat", str(tmp_path / "none.json")]) == 2
    assert "cannot read --chat" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["explain", "a text", "--span", "3"])
    assert "expected A:B, two indices of tokens, or all; got 3" in capsys.readouterr().err


def test_files_keep_the_messages(chatting, tmp_path):
    a = chatting()(CHAT, tensor="cf")
    save([a], tmp_path / "a.safetensors")
    (b,) = load(tmp_path / "a.safetensors")
    assert (b.message_ids, b.roles) == (a.message_ids, a.roles)
    record = json.loads(json.dumps(a.to_dict()))
    assert record["roles"] == ["system", "user"] and record["message_ids"] == list(a.message_ids)
