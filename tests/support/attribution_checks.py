"""Checks of attributions: that one is sound, and that two are the same."""

import numpy as np
import pytest


def assert_sound(a, layers=None, gap=0.02):
    t = len(a)
    assert a.scores.shape == (t,) and a.scores.dtype == np.float64
    assert (a.scores >= 0).all() and np.isfinite(a.scores).all()
    assert_scores_add_up(a)
    assert a.certificate.value <= a.certificate.upper_bound * (1 + 1e-12)
    assert 0 <= a.certificate.gap < gap
    assert a.certificate.conservation < 1e-8 and a.certificate.centrality < 1e-6
    if layers is not None:
        assert a.edges.shape == (layers, t, t) and (a.edges >= 0).all()


def assert_scores_add_up(a):
    """The scores are the flow, but for stages of "net", which have different tokens."""
    if a.tensor == "net":
        assert a.contributions.shape == a.signed_scores.shape == a.scores.shape
        assert np.isfinite(a.signed_scores).all() and np.isfinite(a.explained)
        assert (a.signed_scores[a.scores == 0] <= 0).all()
    else:
        assert a.scores.sum() == pytest.approx(a.certificate.value, rel=1e-8)


def close(a, b, tolerance):
    assert a.tokens == b.tokens and a.target == b.target
    np.testing.assert_allclose(a.logits, b.logits, rtol=tolerance, atol=tolerance)
    scale = a.certificate.value
    np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=tolerance * scale)
    if a.edges is not None:
        np.testing.assert_allclose(a.edges, b.edges, rtol=0, atol=tolerance * scale)


def assert_same_scores(one, other):
    """Equality of tokens and target, and of scores up to rounding."""
    assert one.tokens == other.tokens and one.target == other.target
    np.testing.assert_allclose(one.scores, other.scores, atol=2e-5 * other.scores.max())
