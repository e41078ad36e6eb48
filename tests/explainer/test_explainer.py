"""Scores of texts: sums, batch mates, classes, bad input, and no state left over."""

import inspect
import warnings
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_sound, close

from attnflow import Attribution, Explainer, InputError, ModelError, UnsolvedError
from attnflow.attribution.attribution import Certificate, Results
from attnflow.explainer.flows import warn_of_faint
from attnflow.explainer.options import CallKeywords, CallOptions
from attnflow.inputs.given import IMAGE_ARGUMENTS, TEXT_ARGUMENTS

DEMO = "although this dog is not cute, it is very smart."
TENSORS = ("af", "gf", "agf", "cf")
WAYS = [
    *((tensor, "input") for tensor in (*TENSORS, "bcf")),
    *((tensor, "throughput") for tensor in ("cf", "bcf")),
]
FAMILIES = ("Bert", "Roberta", "DistilBert", "Albert", "Electra", "DebertaV2", "ModernBert")


@pytest.mark.parametrize(("tensor", "readout"), WAYS)
def test_scores_are_shares_of_the_flow(explainer, texts, tensor, readout):
    for text, a in zip(texts, explainer(texts, tensor=tensor, readout=readout), strict=True):
        assert_sound(a)
        assert (a.text, a.tensor, a.readout, a.model) == (text, tensor, readout, "tiny")
        assert a.tokens[0] == "[CLS]" and a.tokens[-1] == "[SEP]" and "[PAD]" not in a.tokens
        assert a.special.tolist() == [True, *[False] * (len(a) - 2), True]
        assert a.certificate.status == "solved" and a.truncated == 0 and a.edges is None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_explained(tiny, tokenizer, texts, family):
    options = dict(global_attn_every_n_layers=2) if family == "ModernBert" else {}
    explainer = Explainer(tiny(family, **options), tokenizer)
    for a in explainer(texts, edges=True):
        assert_sound(a, layers=2)


@pytest.mark.parametrize(("tensor", "readout"), WAYS)
def test_edges_conserve_and_give_the_scores(explainer, texts, tensor, readout):
    for a in explainer(texts, tensor=tensor, readout=readout, edges=True):
        assert_sound(a, layers=2)
        small = 1e-8 * a.certificate.value
        entering, leaving = a.edges.sum(1), a.edges.sum(2)
        np.testing.assert_allclose(entering[1], leaving[0], rtol=0, atol=small)
        assert leaving[1].sum() == pytest.approx(a.certificate.value, rel=1e-8)
        rows = np.stack([*entering, leaving[1]])
        expected = entering[0] if readout == "input" else rows.mean(0)
        np.testing.assert_allclose(a.scores, expected, rtol=0, atol=small)


def test_throughput_is_another_reading_of_the_same_flow(explainer, texts):
    a, b = (explainer(texts[0], readout=readout, edges=True) for readout in ("input", "throughput"))
    assert np.array_equal(a.edges, b.edges) and not np.allclose(a.scores, b.scores)


@pytest.mark.parametrize(("tensor", "readout"), WAYS)
def test_alone_and_in_a_batch_agree(exact, texts, tensor, readout):
    options = dict(tensor=tensor, readout=readout, edges=True)
    together = exact(texts, batch_size=3, **options)
    for text, a in zip(texts, together, strict=True):
        close(a, exact(text, **options), 1e-9)


def test_alone_and_in_a_batch_agree_to_the_noise_of_float32(explainer, exact, texts):
    alone = [explainer(text) for text in texts]
    for a, b, c in zip(explainer(texts), alone, exact(texts), strict=True):
        close(a, b, 3e-5)
        close(a, c, 1e-3)


def test_the_order_of_texts_does_not_matter(exact, texts):
    turned = exact(texts[::-1])[::-1]
    for a, b in zip(exact(texts), turned, strict=True):
        close(a, b, 1e-9)
    same = exact([texts[0]] * 3)
    for a in same:
        close(a, same[0], 1e-9)


def test_one_text_gives_one_attribution(explainer, texts):
    assert isinstance(explainer(texts[0]), Attribution)
    assert [a.text for a in explainer(texts[:1])] == texts[:1]
    assert [a.text for a in explainer(text for text in texts)] == texts
    assert [a.text for a in explainer(np.array(texts))] == texts


def test_edges_of_stages_conserve_and_end_at_the_scores(explainer, texts):
    for a in explainer(texts, edges=True):
        small = 1e-8 * a.scores.sum()
        entering, leaving = a.edges.sum(1), a.edges.sum(2)
        np.testing.assert_allclose(entering[0], a.scores, rtol=0, atol=small)
        np.testing.assert_allclose(entering[1], leaving[0], rtol=0, atol=small)
        assert leaving[1].sum() == pytest.approx(a.scores.sum(), rel=1e-8)


def test_one_stage_is_one_flow(explainer, texts):
    for a in explainer(texts, stages=(), edges=True):
        assert a.scores.sum() == pytest.approx(a.certificate.value, rel=1e-8)
        assert a.edges[0].sum() == pytest.approx(a.certificate.value, rel=1e-8)
        assert (a.scores[a.contributions <= 0] == 0).all()


def test_frozen_patterns_contribute_what_is_explained(tiny, tokenizer, texts):
    explainer = Explainer(tiny("Bert"), tokenizer)
    for a in explainer(texts, stages=(), pattern="frozen"):
        b = explainer(a.text, tensor="cf", target=a.target)
        assert a.contributions.shape == b.contributions.shape
        assert a.explained == pytest.approx(
            float(a.logits[a.target] - np.logaddexp.reduce(np.delete(a.logits, a.target)))
        )


def test_flows_that_carry_little_are_warned_of(explainer, texts):
    plain = explainer(texts[0])
    faint = replace(plain, certificate=replace(plain.certificate, value=1e-3))
    with pytest.warns(
        UserWarning, match=r"1 of 2 flows carry less than 5%.*least 0\.001 \(number 1\)"
    ):
        warn_of_faint([replace(plain, certificate=replace(plain.certificate, value=0.5)), faint])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_faint([replace(faint, tensor="cf")])


@pytest.mark.parametrize("stages", [0.3, "halves", ("a",), (1.5,), (0.0,), [0.1, None]])
def test_stages_are_shares_and_halves(explainer, stages):
    assert explainer("good", stages=("halves", 0.3)).stages == ("halves", 0.3)
    with pytest.raises(InputError, match=r"stages .*must be .*shares of the tokens.* got"):
        explainer("good", stages=stages)


def test_a_result_tells_its_stages_and_pattern(tiny, tokenizer, texts):
    explainer = Explainer(tiny("Bert"), tokenizer)
    a = explainer(texts[0])
    assert (a.stages, a.pattern) == ((0.05, 0.15, 0.3), "frozen")
    b = explainer(texts[0], stages=(), pattern="shared")
    assert (b.stages, b.pattern) == ((), "shared")
    c = explainer(texts[0], tensor="cf")
    assert (c.stages, c.pattern) == (None, None)
    assert "mean flow over the stages" in a._repr_html_()
    assert "one maximum flow" in b._repr_html_() and "one maximum flow" in c._repr_html_()


def test_a_pattern_that_cannot_be_shared_is_refused_before_any_pass(tiny, tokenizer, texts):
    explainer, calls = Explainer(tiny("MPNet"), tokenizer), []
    hook = explainer.model.register_forward_hook(lambda *args: calls.append(1))
    try:
        with pytest.raises(InputError, match="computes its own attention.*--pattern frozen"):
            explainer(texts[0], pattern="shared")
        assert not calls
    finally:
        hook.remove()
    assert explainer(texts[0]).pattern == "frozen"


def test_signs_are_those_of_the_input_whatever_is_read_out(explainer, texts):
    for a, b in zip(explainer(texts), explainer(texts, readout="throughput"), strict=True):
        np.testing.assert_allclose(a.signed_scores, b.signed_scores, rtol=1e-9)


def test_a_smaller_gap_brings_more_flow(explainer, texts):
    # One stage: the barrier's weight is relative to each stage's own network.
    options = dict(stages=())
    values = [explainer(texts[0], gap=gap, **options).certificate for gap in (0.3, 1e-2, 1e-5)]
    assert values[0].value < values[1].value < values[2].value
    assert values[2].gap < 1e-4 < values[0].gap
    fixed = explainer(texts[0], mu=values[1].mu, **options).certificate
    assert fixed.value == pytest.approx(values[1].value) and fixed.mu == values[1].mu


def test_demo_ranks_smart_first(embedded):
    for readout in ("input", "throughput"):
        a = embedded(DEMO, readout=readout)
        assert_sound(a)
        assert a.label == "positive" and a.top(1)[0][0] == "smart"
    assert embedded(DEMO).model == "attnflow/minilm-l6-sst2"


# Texts
@pytest.mark.parametrize("text", ("", "  \n\t", "[SEP]", "[CLS] [SEP]"))
def test_nothing_to_explain(explainer, text):
    with pytest.raises(InputError, match="nothing to explain"):
        explainer(text)
    with pytest.raises(InputError, match=r"text 1 \(of 3\).*nothing to explain"):
        explainer(["good", text, "bad"])


@pytest.mark.parametrize("texts", (None, 3, object()))
def test_no_texts_at_all(explainer, texts):
    with pytest.raises(InputError, match="texts must be a text, a chat or a sequence of texts"):
        explainer(texts)


def test_a_sequence_gives_a_list_that_a_notebook_shows_as_a_table(explainer):
    results = explainer(["good film", "bad"])
    assert type(results) is Results and [a.text for a in results] == ["good film", "bad"]
    assert results._repr_html_().count("<details><summary><small>All about it") == 2
    each = explainer(["good film", "bad"], target="all")
    assert type(each) is type(each[0]) is Results and "0.0" in each._repr_html_()


def test_an_empty_list(explainer):
    for texts in ([], (), iter(())):
        with pytest.raises(InputError, match="texts is empty"):
            explainer(texts)


def test_a_text_that_is_no_string_is_named(explainer):
    with pytest.raises(InputError, match=r"text 2 \(of 3\): a text must be a string, got int: 7"):
        explainer(["good", "bad", 7])


def test_too_long_says_both_numbers(explainer):
    assert explainer.limit == 32
    text = "good " * 40
    with pytest.raises(InputError, match="has 42 tokens and the model takes 32.*truncate=True"):
        explainer(text)
    assert len(explainer("good " * 30)) == 32  # exactly as long as it may be


def test_truncation_warns_where_it_was_asked_for(explainer):
    texts = ["bad", "good " * 40]
    with pytest.warns(UserWarning, match="text 1 was cut to 32 tokens: 10 more") as caught:
        short, long = explainer(texts, truncate=True)
    assert caught[0].filename == __file__
    assert (short.truncated, long.truncated, len(long)) == (0, 10, 32)
    assert_sound(long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer(texts[0], truncate=True)


@pytest.mark.parametrize("family", ("Bert", "Roberta", "XLMRoberta", "MPNet", "Electra", "Esm"))
def test_the_limit_is_what_the_positions_allow(tiny, tokenizer, family):
    options = dict(token_dropout=False, mask_token_id=4) if family == "Esm" else {}
    model = tiny(family, pad_token_id=1, max_position_embeddings=20, **options)
    limit = Explainer(model, tokenizer).limit
    assert limit == (20 if family in ("Bert", "Electra") else 18)
    ids = torch.full((1, limit + 1), 7)
    assert model(input_ids=ids[:, :-1], attention_mask=ids[:, :-1] * 0 + 1).logits.isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids, attention_mask=ids * 0 + 1)


# Options
@pytest.mark.parametrize("gap", (0, 1, -0.1, 1.5, float("nan"), float("inf"), True, "0.1", None))
def test_gap_lies_inside_the_unit(explainer, gap):
    with pytest.raises(InputError, match=r"gap must lie inside \(0, 1\)"):
        explainer("good", gap=gap)


@pytest.mark.parametrize("mu", (0, -1.0, float("nan"), float("inf")))
def test_mu_is_positive(explainer, mu):
    with pytest.raises(InputError, match="mu must be finite and > 0"):
        explainer("good", mu=mu)


@pytest.mark.parametrize(
    ("options", "message"),
    (
        (dict(tensor="xy"), "tensor must be one of af, gf, agf, cf, bcf, net, got 'xy'"),
        (dict(tensor=None), "tensor must be one of"),
        (dict(tensor="CF"), "tensor must be one of"),
        (dict(readout="output"), "readout must be one of input, throughput"),
        (dict(readout="throughput", tensor="agf"), "needs tensor 'net', 'bcf' or 'cf', got 'agf'"),
        (dict(batch_size=0), "batch_size must be an integer of at least 1, got 0"),
        (dict(batch_size=-2), "batch_size"),
        (dict(batch_size=1.5), "batch_size"),
        (dict(batch_size="4"), "batch_size"),
    ),
)
def test_options_are_checked(explainer, options, message):
    with pytest.raises(InputError, match=message):
        explainer("good", **options)


@pytest.mark.parametrize(("model", "tokenizer"), (("bert", "bert"), (None, None)))
def test_an_explainer_takes_a_model_and_not_its_name(model, tokenizer):
    with pytest.raises(InputError, match="use Explainer.from_pretrained"):
        Explainer(model, tokenizer)


def test_progress_is_told_of_every_batch(explainer, texts):
    done = []
    explainer(texts * 2, batch_size=3, progress=done.append)
    assert done == [3, 3, 2]


def test_progress_counts_texts_and_not_the_tokens_of_their_continuations(writer):
    for batch_size, batches in ((2, 3), (16, 1)):
        done = []
        texts, options = ["the dog is", "bad dog"], dict(tensor="cf", batch_size=batch_size)
        found = writer(texts, continuation=" good dog not", progress=done.append, **options)
        assert [len(a) for a in found] == [3, 3]
        assert len(done) == batches and sum(done) == 2


def test_batches_are_never_larger_than_asked(tiny, tokenizer, texts):
    model = tiny()
    sizes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(tuple(kwargs["attention_mask"].shape)),
        with_kwargs=True,
    )
    Explainer(model, tokenizer)(texts, batch_size=3)
    assert [size[0] for size in sizes] == [3] * 4 + [1] * 4  # four points each
    assert sizes[0][1] > sizes[-1][1]  # longest first


# Models
def test_training_mode_is_refused(tiny, tokenizer):
    with pytest.raises(ModelError, match="training mode.*model.eval"):
        Explainer(tiny().train(), tokenizer)("good")


@pytest.mark.parametrize("target", (None, 0, [None, 0]))
def test_weights_that_are_no_numbers(tiny, tokenizer, target):
    for broken in (float("nan"), float("inf")):
        model = tiny()
        with torch.no_grad():
            model.classifier.weight[0, 0] = broken
        with pytest.raises(ModelError, match="not finite"):
            Explainer(model, tokenizer)(["good film", "bad"], target=target)


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("target", (None, [None, 1]))
def test_no_attention(tiny, tokenizer, tensor, target):
    explainer = Explainer(tiny("FNet"), tokenizer)
    with pytest.raises(ModelError, match="FNetForSequenceClassification"):
        explainer(["good film", "bad"], tensor=tensor, target=target)


def test_a_tokenizer_of_another_model(tiny, tokenizer):
    explainer = Explainer(tiny(vocab_size=8), tokenizer)
    with pytest.raises(ModelError, match="tokens 0 to 7: they do not belong together"):
        explainer("the film is good")


def test_a_decision_that_rests_on_nothing(tiny, tokenizer):
    model = tiny()
    with torch.no_grad():
        model.classifier.weight.zero_()
    a = Explainer(model, tokenizer)("good film", edges=True)
    assert not a.scores.any() and not a.edges.any()
    assert a.certificate.status == "empty" and a.certificate.value == a.certificate.gap == 0


@pytest.mark.parametrize("pad", (None, 50))
def test_a_decoder_with_and_without_padding_token(tiny, tokenizer, texts, pad):
    model = tiny("GPT2", pad_token_id=pad, bos_token_id=1, eos_token_id=1).double()
    explainer = Explainer(model, tokenizer)
    for text, a in zip(texts, explainer(texts, tensor="agf", edges=True), strict=True):
        assert_sound(a, layers=2, gap=0.05)
        assert not np.triu(a.edges[0], 1).any()  # no token sees those after it
        close(a, explainer(text, tensor="agf", edges=True), 1e-9)


def test_a_decisive_token_takes_the_flow(tiny, tokenizer):
    """Attention that looks only at one token lets the flow of the attention end there."""
    model = tiny(num_hidden_layers=1)
    good = tokenizer.convert_tokens_to_ids("good")
    with torch.no_grad():
        table = model.bert.embeddings.word_embeddings.weight
        table[:, 0], model.bert.embeddings.position_embeddings.weight[:, 0] = 0.0, 0.0
        table[good] = 0.0
        table[good, 0] = 50.0
        attention = model.bert.encoder.layer[0].attention.self
        attention.query.weight.zero_()
        attention.query.bias.fill_(3.0)
        attention.key.weight.zero_()
        attention.key.weight[:, 0] = 5.0
    for text in ("the good film", "a very very good dog", "good", "film good"):
        a = Explainer(model, tokenizer)(text, tensor="af")
        assert a.top(1)[0][0] == "good" and a.scores[list(a.tokens).index("good")] > 0.9 * (
            a.certificate.value
        )


# No state is left over
@pytest.fixture
def fresh(tiny, tokenizer):
    model = tiny()
    for parameter in model.bert.embeddings.parameters():
        parameter.requires_grad_(False)
    return Explainer(model, tokenizer)


def attributes(explainer):
    return {name: id(value) for name, value in vars(explainer).items()}


@pytest.mark.parametrize(("tensor", "readout"), WAYS)
def test_a_call_leaves_no_state(fresh, texts, state, tensor, readout):
    before, held = state(fresh.model), attributes(fresh)
    first = fresh(texts, tensor=tensor, readout=readout, edges=True)
    assert state(fresh.model) == before and attributes(fresh) == held
    again = fresh(texts, tensor=tensor, readout=readout, edges=True)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.scores, b.scores) and np.array_equal(a.edges, b.edges)


def test_failed_calls_leave_no_state(fresh, state):
    before, held = state(fresh.model), attributes(fresh)
    for options in (dict(target="nice"), dict(gap=2), dict(mu=-1.0), dict(tensor="xy")):
        with pytest.raises(InputError):
            fresh(["good", "bad"], **options)
    with pytest.raises(InputError):
        fresh(["good", ""])
    assert state(fresh.model) == before and attributes(fresh) == held


@pytest.mark.parametrize(
    ("tensor", "when"),
    (
        *(("agf", when) for when in ("forward", "backward")),
        *(("cf", when) for when in ("forward", "backward", "between")),
    ),
)
def test_an_interruption_passes_and_restores_the_model(fresh, texts, state, tensor, when):
    layer = fresh.model.bert.encoder.layer[1]

    def interrupt(*args):
        raise KeyboardInterrupt

    def interrupt_backward(module, args, output):
        found = output[0] if isinstance(output, tuple) else output
        if found.requires_grad:
            found.register_hook(interrupt)

    held, options = attributes(fresh), {}
    before = state(fresh.model)
    hook = None
    if when == "between":
        options["progress"] = interrupt
    else:
        chosen = interrupt if when == "forward" else interrupt_backward
        hook = layer.register_forward_hook(chosen)
    with pytest.raises(KeyboardInterrupt):
        fresh(texts, tensor=tensor, batch_size=2, **options)
    if hook is not None:
        hook.remove()
    assert state(fresh.model) == before and attributes(fresh) == held
    for a in fresh(texts, tensor=tensor):
        assert_sound(a)


def test_a_flow_without_certificate_is_an_error(explainer, monkeypatch):
    from attnflow.explainer import flows as module
    from attnflow.solver import maximum_flow

    monkeypatch.setattr(
        module, "maximum_flow", lambda network, **options: maximum_flow(network, max_iterations=1)
    )
    with pytest.raises(UnsolvedError, match="1 of 1 flows could not be certified"):
        explainer("the film is good")


def test_the_certificate_is_that_of_the_flow(explainer, texts):
    certificate = explainer(texts[0]).certificate
    assert isinstance(certificate, Certificate)
    for value in vars(certificate).values():
        assert type(value) in (float, int, str)


def test_unsolved_flows_are_named_by_text_and_kept_when_asked_for(embedded):
    """A mu that float64 cannot resolve."""
    texts = ["a very fine film indeed", "dull"]

    with pytest.raises(UnsolvedError, match="2 of 2 flows could not be certified: number 0"):
        embedded(texts, mu=1e-250)
    kept = embedded(texts, mu=1e-250, keep_unsolved=True)

    assert [a.certificate.is_certified for a in kept] == [False, False]
    assert [a.text for a in kept] == texts


def test_loading_the_embedded_model_leaves_the_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)

    torch.manual_seed(1)
    Explainer.from_pretrained()

    assert torch.equal(torch.rand(3), expected)


def test_a_tokenizer_goes_by_both_its_names(tokenizer, explainer):
    expected = explainer("the film is good").scores
    for name in ("tokenizer", "processor"):
        again = Explainer(explainer.model, **{name: tokenizer})
        assert again.tokenizer is tokenizer
        np.testing.assert_array_equal(again("the film is good").scores, expected)
    with pytest.raises(InputError, match="processor= or tokenizer=, two names of one argument"):
        Explainer(explainer.model, tokenizer, tokenizer=tokenizer)


def test_type_checkers_know_every_keyword_of_a_call():
    names = set(inspect.signature(Explainer.__call__).parameters) - {"self"}
    examples = {"texts", *TEXT_ARGUMENTS, *IMAGE_ARGUMENTS} - {"pair", "truncate", "neutral", "bos"}
    assert set(CallKeywords.__annotations__) == names - examples
    defaults = inspect.signature(CallOptions).parameters
    called = inspect.signature(Explainer.__call__).parameters
    for name, parameter in defaults.items():
        assert called[name].default == parameter.default


def test_options_are_frozen_and_check_themselves():
    options = CallOptions()
    with pytest.raises(FrozenInstanceError):
        options.gap = 0.5
    for wrong in (dict(tensor="cam"), dict(readout="mean"), dict(batch_size=0), dict(coarsen=0)):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
            CallOptions(**wrong)
