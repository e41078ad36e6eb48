"""Instances about next tokens and about images: the same methods, the same evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attnflow import Explainer, InputError, ModelError
from attnflow.evaluation import (
    Example,
    Protocol,
    RunSettings,
    evaluate,
    metric_scores,
    sample_instances,
)
from attnflow.evaluation.metrics import LOWER_IS_BETTER
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.protocol import MethodOutput, measure_faithfulness, run_method
from attnflow.evaluation.ranking import unit_masks
from attnflow.methods import (
    METHODS,
    ImageClassifier,
    Instance,
    LanguageModel,
    Method,
    adapter_for,
)
from attnflow.methods.information_tensors import INFORMATION_TENSORS

KINDS = ("llama", "vit")
OPERATORS_OF = {"llama": ("mask", "delete"), "vit": ("mask", "darkest", "delete")}
OF_BERT = ("transatt", "alti", "globenc", "decompx", "staged-decompx")
OF_BERT_TENSORS = ("relevance", "norm", "alti", "cf-alti")
PATCHES = [1.0, 3.0, -2.0, 0.5, 0.0, 4.0]


def only_bert(name):
    return name in OF_BERT or name.partition(":")[0] in OF_BERT_TENSORS


@pytest.fixture
def instance_named(request):
    """Return the instance of the fixture with that name."""
    return lambda name: request.getfixturevalue(name)


@pytest.fixture(scope="module")
def shared(llama, vit):
    """The instances, with the passes that methods have left."""
    return {"llama": llama.with_empty_cache(), "vit": vit.with_empty_cache()}


def terms(instance):
    """Part of each node in the explained number of an additive model."""
    with torch.no_grad():
        if isinstance(instance.adapter, LanguageModel):
            return instance.point[0, :, 0].numpy()
        return instance.adapter.model.embeddings(instance.point)[0, :, 0].numpy()


def additive(instance_named, name):
    return (
        instance_named("additive_language")()
        if name == "llama"
        else instance_named("additive_image")
    )


# Methods


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_scores_the_same_twice_or_refuses_in_words(instance_named, shared, kind, name):
    """Scores by passes of its own, and by those that other methods share with it."""
    instance = instance_named(kind)
    if only_bert(name):
        with pytest.raises(ModelError, match=f"for BERT's layers .* {instance.adapter.kind}"):
            run_method(METHODS[name], instance)
        return
    first = run_method(METHODS[name], instance)
    again = run_method(METHODS[name], shared[kind], timed=False)
    assert (first.scores == again.scores).all() and first.scores.shape == (instance.nodes,)
    assert np.ptp(first.scores[instance.ordinary]) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ("gradient-x-input", "integrated-gradients", "deeplift", "deltatrace")
)
def test_gradients_of_a_sum_are_its_terms(instance_named, kind, name):
    instance = additive(instance_named, kind)
    scores = run_method(METHODS[name], instance).scores[instance.ordinary]
    np.testing.assert_allclose(scores, terms(instance)[instance.ordinary], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion_has_the_sign_and_order_of_the_terms(instance_named, kind):
    instance = additive(instance_named, kind)
    scores = run_method(METHODS["occlusion"], instance).scores[instance.ordinary]
    expected = terms(instance)[instance.ordinary]
    assert (np.sign(scores.round(9)) == np.sign(expected)).all()
    for i, j in zip(*np.nonzero(expected[:, None] > expected + 0.6), strict=True):
        assert scores[i] > scores[j]


@pytest.mark.parametrize("kind", KINDS)
def test_integrated_gradients_begin_where_everything_is_neutral(instance_named, kind):
    instance = instance_named(kind)
    points = instance.point, instance.baseline
    with torch.no_grad():
        ends = [instance.value(instance.adapter.logits(point))[0] for point in points]
    scores = run_method(METHODS["integrated-gradients"], instance).scores
    assert scores.sum() == pytest.approx(float(ends[0] - ends[1]), rel=2e-2, abs=2e-2)
    emptied = instance.mask(instance.ordinary)
    assert not emptied.removable.any() and instance.removable.tolist() == instance.ordinary.tolist()


def test_a_next_token_is_read_in_the_last_row(llama):
    read = llama.nodes - 1
    assert llama.readout_node == llama.position == read and not llama.ordinary[read]
    rollout = run_method(METHODS["rollout"], llama).scores
    assert rollout.sum() == pytest.approx(1, abs=1e-5)
    for name in ("af", "af-res", "gf", "cf", "bcf"):
        edges = INFORMATION_TENSORS[name](llama).with_source(llama.position)
        assert not edges.capacities[-1, :read].any() and edges.capacities[-1, read].any()
        assert not edges.capacities.triu(1).any(), "no edge leads to a later token"
    assert run_method(METHODS["raw-attention"], llama).scores[read] == 0


@pytest.mark.parametrize("tensor", ("af", "gf", "agf", "cf", "bcf"))
def test_flows_to_a_next_token_are_those_of_the_explainer(llama, tensor):
    """`bcf` explains the log-odds; the others explain the logit, as the explainer does."""
    explainer = Explainer(llama.adapter.model, llama.adapter.tokenizer)
    for count in range(3, llama.nodes + 1):  # in some of which a stage replaces the token read
        text = llama.adapter.cut(llama.content, count)
        ids = llama.adapter.collate(text)["input_ids"]
        (expected,) = explainer(input_ids=ids, target=llama.target, tensor=tensor)
        explained = "contrast" if tensor == "bcf" else "logit"
        instance = replace(llama, content=text, explained=explained)
        scores = run_method(METHODS[f"{tensor}:flow"], instance).scores
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-6)


def test_a_stage_may_replace_the_token_that_is_read(llama):
    """It may in an explanation, whose scores `bcf:flow` has; stages of other methods keep it."""
    assert (llama.neutral != llama.inputs["input_ids"]).sum() == llama.ordinary.sum() + 1
    assert not llama.removable[-1] and torch.equal(llama.baseline[0, -1], llama.point[0, -1])


@pytest.mark.parametrize("name", ("gradient", "cf:signed-first", "bcf:flow"))
def test_patches_are_in_rows_from_the_top(vit, name):
    """A patch that is grey already is the only one that cannot be removed."""
    pixels = vit.content.pixels.clone()
    pixels[:, 2:4, 4:6] = 0  # second row, third column
    grey = Instance(vit.adapter, vit.adapter.encode(pixel_values=pixels), vit.target)
    assert np.flatnonzero(vit.ordinary & ~grey.removable).tolist() == [1 + 4 + 2]
    one = np.arange(vit.nodes) == 1 + 4 + 2
    assert torch.equal(vit.mask(one).content.pixels, pixels)
    assert run_method(METHODS[name], vit).scores.shape == (13,)


# What is removed


def test_tokens_are_removed_and_the_ends_stay(additive_language):
    instance = additive_language("the good film")
    tokenizer = instance.adapter.tokenizer

    def tokens(name, indices):
        removed = np.isin(np.arange(instance.nodes), indices)
        return tokenizer.convert_ids_to_tokens(OPERATORS[name](instance, removed).ids.tolist())

    assert instance.content.tokens == ("[CLS]", "the", "good", "film")
    assert instance.ordinary.tolist() == [False, True, True, False]
    assert unit_masks(instance, "token").shape == (2, 4)
    assert not unit_masks(instance, "word")[:, [0, 3]].any()
    assert tokens("delete", [1]) == ["[CLS]", "good", "film"]
    assert tokens("mask", [1, 2]) == ["[CLS]", "[MASK]", "[MASK]", "film"]


def test_the_model_reads_each_replacement_of_a_patch(vit):
    seen = []
    model = vit.adapter.model
    first = model.vit.layers[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    pixels = model.register_forward_pre_hook(
        lambda m, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    removed = np.isin(np.arange(vit.nodes), [1, 6])
    try:
        for name in ("mask", "darkest", "delete"):
            vit.log_probability([OPERATORS[name](vit, removed)])
        with torch.no_grad():
            whole, dropped = model.vit.embeddings(seen[4].clone()), seen[5]
    finally:
        first.remove(), pixels.remove()
    area = np.zeros((6, 8), bool)
    area[0:2, 0:2] = area[2:4, 2:4] = True
    pixels = vit.content.pixels
    for shown, filling in ((seen[0], torch.zeros(3)), (seen[2], pixels.amin((1, 2)))):
        assert torch.equal(shown[0][:, ~area], pixels[:, ~area])
        assert torch.equal(shown[0][:, area], filling[:, None].expand(-1, area.sum()))
    assert torch.equal(seen[4][0], pixels)
    torch.testing.assert_close(dropped, whole[:, torch.from_numpy(~removed)])
    assert not model.vit.embeddings._forward_hooks


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_batch_mates(instance_named, kind):
    instance = instance_named(kind)
    removed = [np.arange(instance.nodes) < n for n in (1, 3, 5, 2)]
    removed = [one & instance.ordinary for one in removed]
    variants = [OPERATORS[name](instance, one) for name in OPERATORS_OF[kind] for one in removed]
    together = instance.log_probability(variants)
    alone = [float(instance.log_probability([one])[0]) for one in variants]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    every = instance.adapter.log_probabilities(variants)
    np.testing.assert_allclose(every[:, instance.target], together, rtol=1e-9)
    assert np.exp(every).sum(1) == pytest.approx(np.ones(len(variants)))
    assert instance.adapter.predicted(variants) == every.argmax(1).tolist()


def test_only_the_logits_that_are_read_are_computed(llama, monkeypatch):
    """Others are left out if the model can; the probabilities are the same if it cannot."""
    whole = llama.adapter.whole_variant(llama.content)
    part = OPERATORS["delete"](llama, llama.ordinary)
    expected = llama.log_probability([whole, part])
    shapes = []
    handle = llama.adapter.model.register_forward_hook(lambda m, a, out: shapes.append(out.logits))
    try:
        llama.log_probability([whole, part])
        monkeypatch.setattr(llama.adapter, "_only_logits_at", lambda positions: {})
        assert llama.log_probability([whole, part]) == pytest.approx(expected, abs=1e-6)
    finally:
        handle.remove()
    assert [x.shape[1] for x in shapes] == [2, llama.nodes]


# The instrument


@pytest.mark.parametrize("kind", KINDS)
def test_an_oracle_is_best_and_its_opposite_worst(instance_named, kind):
    instance = additive(instance_named, kind)
    protocol, rows = Protocol(operators=OPERATORS_OF[kind]), []
    for seed in range(4):
        scorers = {
            "oracle": terms(instance),
            "inverted": -terms(instance),
            "other": np.random.default_rng(seed).random(instance.nodes),
        }
        answers = [MethodOutput(Method(n, lambda q: q, ""), s, 0.0) for n, s in scorers.items()]
        rows += [
            {"example": seed, **row} for row in measure_faithfulness(instance, answers, protocol)
        ]
    found = metric_scores(rows)
    assert {operator for _, operator in found.values} == set(OPERATORS_OF[kind])
    for (metric, operator), values in found.values.items():
        if metric != "absolute_aopc":
            best, worst, other = values.mean(1) * (-1 if metric in LOWER_IS_BETTER else 1)
            assert best > other > worst, (metric, operator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumes_and_reports_what_failed(instance_named, kind, tmp_path):
    instance = instance_named(kind)
    run = RunSettings("model", "data", Protocol(operators=OPERATORS_OF[kind]))
    instances = [(Example(0, "one", None), instance)]
    first = evaluate(run, instances, [METHODS["random"], METHODS["alti"]], tmp_path)
    assert [row["method"] for row in first if "failed" in row] == ["alti"]
    again = evaluate(run, instances, [METHODS["random"], METHODS["bcf:flow"]], tmp_path)
    assert again[: len(first)] == first and again[-1]["method"] == "bcf:flow"
    assert set(again[-1]["removed"]) == set(OPERATORS_OF[kind])


def test_positions_are_drawn_within_bounds_and_again_the_same(additive_language):
    adapter = additive_language().adapter
    words = "the good film a bad fine dull film a good the film".split()
    examples = [Example(i, " ".join(words[: 6 + i % 7]), None) for i in range(30)]
    options = dict(min_tokens=4, max_tokens=9, position="random")
    found = sample_instances(examples, adapter, **options)
    lengths = [q.nodes for _, q in found]
    assert len(found) == 30 and min(lengths) == 4 and max(lengths) == 9
    for example, instance in found:
        whole = adapter.encode(example.content).inputs["input_ids"]
        assert instance.inputs["input_ids"][0].tolist() == whole[: instance.nodes]
    again = sample_instances(examples, adapter, limit=7, **options)
    assert [(e.index, q.nodes) for e, q in again] == [(e.index, q.nodes) for e, q in found[:7]]
    at_end = sample_instances(examples, adapter, min_tokens=4, max_tokens=9)
    assert all(q.nodes == len(adapter.encode(e.content).tokens) for e, q in at_end)


# Refusals


def test_options_for_another_kind_of_model_are_refused(
    classifier, additive_language, vit, tmp_path
):
    language, images = additive_language().adapter, vit.adapter
    texts, files = [Example(0, "good film", 0)], [Example(0, tmp_path / "a.png", 0)]
    for adapter, examples, options, complaint in (
        (classifier, files, {}, "the data are images: give texts"),
        (images, texts, {}, "the data are texts: give a folder of images"),
        (language, texts, {"target": "label"}, "it has no labels"),
        (classifier, texts, {"position": "random"}, "is for language models, not for a classifier"),
        (language, texts, {"position": "middle"}, "position must be one of end, random"),
        (language, texts, {"change": lambda example: example}, "noise is for the texts of"),
    ):
        with pytest.raises(InputError, match=complaint):
            sample_instances(examples, adapter, min_tokens=1, **options)
    for adapter, options, complaint in (
        (images, {"operators": ("pad",)}, "'pad' is not for an image classifier"),
        (language, {"operators": ("darkest",)}, "'darkest' is not for a language model"),
        (images, {"granularity": "word"}, "'word' is not for"),
        (images, {"extras": ("soft",)}, "'soft' is not for"),
    ):
        with pytest.raises(InputError, match=complaint):
            Protocol(**options).check(adapter)
    with pytest.raises(InputError, match="operator 'pad' is not for"):
        OPERATORS["pad"](vit, vit.ordinary)


def test_models_of_other_kinds_are_refused(bert, llama, vit, tiny):
    tokenizer = bert.adapter.tokenizer
    for model, kind in ((llama.adapter.model, LanguageModel), (vit.adapter.model, ImageClassifier)):
        assert type(adapter_for(model, tokenizer)) is kind
    with pytest.raises(ModelError, match="expected one for text-generation"):
        LanguageModel(bert.adapter.model, tokenizer)
    with pytest.raises(ModelError, match="expected one for image-classification"):
        ImageClassifier(bert.adapter.model)
    with pytest.raises(ModelError, match="is a model for fill-mask: expected one for text-class"):
        adapter_for(tiny(head="MaskedLM"), tokenizer)


def test_patches_that_overlap_cannot_be_removed(vit):
    import copy

    model = copy.deepcopy(vit.adapter.model)
    model.vit.embeddings.patch_embeddings.projection.stride = (1, 1)
    with pytest.raises(ModelError, match="none can be removed by itself"):
        ImageClassifier(model)
