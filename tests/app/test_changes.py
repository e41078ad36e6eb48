"""The difference between two results: words that came, went, and moved."""

from dataclasses import replace

import pytest
from support.example_attributions import attribution_of, image_of

from attnflow.app.changes import changes

BEFORE, AFTER = "the dog is cute, they say.", "the small dog is, they say."


def test_the_text_is_rebuilt_with_its_white_space():
    found = changes([attribution_of(BEFORE)], attribution_of(AFTER))
    now = "".join(piece["text"] for piece in found["text"] if piece["kind"] != "removed")
    was = "".join(piece["text"] for piece in found["text"] if piece["kind"] != "added")
    assert (was, now) == (BEFORE, AFTER)


def test_the_same_class_is_compared_where_there_is_one():
    positive, after = attribution_of(BEFORE), attribution_of(AFTER)
    negative = replace(positive, target=0)
    found = changes([negative, positive], after)
    assert found["about"] == [after.label, after.label]
    assert [choice["label"] for choice in found["choices"]] == [negative.label, after.label]
    assert changes([negative], after)["about"] == [negative.label, after.label]


def test_shares_are_those_of_the_results():
    before, after = attribution_of(BEFORE), attribution_of(AFTER)
    found = changes([before], after)
    sizes = [abs(each["change"]) for each in found["moved"]]
    assert sizes == sorted(sizes, reverse=True)
    small = next(each for each in found["moved"] if each["text"] == "small")
    assert small["before"] is None and small["change"] == pytest.approx(after.shares[2])


def test_nothing_changed_is_nothing_to_say():
    one = attribution_of(BEFORE)
    assert changes([one], one) is None


def test_images_and_other_tasks_are_not_compared():
    one, image = attribution_of(BEFORE), image_of((2, 3))
    assert changes([image], image) is None and changes([one], image) is None
    assert changes([replace(one, task="fill-mask")], one) is None
