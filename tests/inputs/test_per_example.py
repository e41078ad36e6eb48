"""Labels of examples in errors."""

import pytest

from attnflow import InputError
from attnflow.inputs.per_example import ExampleLabels


def test_an_error_names_its_example():
    labels = ExampleLabels(["one", "", "a text that is longer than what is shown of it"])

    def read(labels, *wrong):
        numbers = []
        for number in range(len(labels.beginnings)):
            with labels.about(number):
                if number in wrong:
                    raise InputError("no")
                numbers.append(10 * number)
        return numbers

    assert read(labels) == [0, 10, 20]
    for wrong, said in (
        ((0,), "text 0 (of 3), 'one': no"),
        ((0, 1), "text 0 (of 3), 'one': no"),
        ((1, 2), "text 1 (of 3): no"),
        ((2,), "text 2 (of 3), 'a text that is longer than what is show…': no"),
        ((0, 1, 2), "text 0 (of 3), 'one': no"),
    ):
        with pytest.raises(InputError) as error:
            read(labels, *wrong)
        assert str(error.value) == said
    with pytest.raises(InputError, match="^no$"):
        read(ExampleLabels(["one"], "image"), 0)
