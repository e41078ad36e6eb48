"""Limits of AOPC, soft metrics, infidelity, max-sensitivity, on a model with a known answer."""

import itertools

import numpy as np
import pytest

from attnflow.evaluation import naopc
from attnflow.evaluation.naopc import aopc_limits, normalised
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.ranking import unit_masks
from attnflow.evaluation.soft_metrics import infidelity, max_sensitivity, soft_scores
from attnflow.methods import METHODS, Method

TEXT = "the good film a bad fine dull film"


def aopc_of(asked, order, operator):
    """The metric by its definition."""
    units = unit_masks(asked, "token")
    removed = [units[list(order[: k + 1])].any(0) for k in range(len(order))]
    variants = [OPERATORS[operator](asked, r) for r in [removed[0] & False, *removed]]
    p = np.exp(asked.adapter.log_probabilities(variants)[:, asked.target])
    return p[0] - p[1:].mean()


@pytest.mark.parametrize("operator", ("mask", "delete", "pad", "pad-attended"))
def test_exact_limits_are_those_of_all_orders(instance, operator):
    asked = instance("good bad fine dull")
    every = [aopc_of(asked, o, operator) for o in itertools.permutations(range(4))]
    found = aopc_limits(asked, unit_masks(asked, "token"), operator)
    assert found == pytest.approx((min(every), max(every)), abs=1e-6)
    assert normalised(max(every), found) == pytest.approx(1, abs=1e-5)
    assert normalised(min(every), found) == pytest.approx(0, abs=1e-5)
    assert normalised(0.3, (0.3, 0.3)) == 0.5


def test_a_beam_finds_the_limits_of_a_sum(instance, monkeypatch):
    asked = instance(TEXT)
    units = unit_masks(asked, "token")
    exact = aopc_limits(asked, units, "mask")
    monkeypatch.setattr(naopc, "MAX_EXACT_UNITS", 2)
    assert aopc_limits(asked, units, "mask") == pytest.approx(exact, abs=1e-6)


def test_soft_metrics_have_the_right_direction(instance, oracle):
    asked = instance(TEXT)
    best, worst = soft_scores(asked, oracle(asked)), soft_scores(asked, -oracle(asked))
    assert best.sufficiency > worst.sufficiency
    assert best.comprehensiveness > worst.comprehensiveness
    assert soft_scores(asked, np.exp(oracle(asked))) == best  # only the order counts


def test_infidelity_is_smallest_for_what_predicts_the_change(instance, oracle):
    asked = instance(TEXT)
    good = infidelity(asked, oracle(asked))
    assert good < infidelity(asked, oracle(asked) ** 2)
    assert good < infidelity(asked, np.random.default_rng(0).normal(size=asked.nodes))
    for factor in (7, -1):  # the best scaling may turn them round
        assert infidelity(asked, factor * oracle(asked)) == pytest.approx(good)


def test_sensitivity_of_a_constant_and_of_a_gradient(instance):
    asked = instance(TEXT)
    constant = Method("constant", lambda q: np.ones(q.nodes), "")
    assert max_sensitivity(asked, constant) == 0
    moved = max_sensitivity(asked, METHODS["gradient-x-input"])
    assert 0 < moved < 0.1
    table = asked.adapter.model.get_input_embeddings()
    assert not table._forward_hooks


def test_tied_scores_share_their_rank(instance):
    """Constant scores keep every coordinate with one probability, (t + 1) / 2t of t tokens."""
    example = instance("good bad fine dull")
    constant = soft_scores(example, np.zeros(example.nodes))
    assert soft_scores(example, np.full(example.nodes, 7.0)) == constant
    reversed_order = soft_scores(example, np.arange(float(example.nodes)))
    assert reversed_order != constant
