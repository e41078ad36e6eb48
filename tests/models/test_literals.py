"""Names of options: one list of each, and cheap to import."""

import subprocess
import sys
from typing import get_args

from attnflow.capture import TENSORS
from attnflow.models.literals import ConservativeTensor, InformationTensor, PaperTensor


def test_information_tensors_are_those_of_capture_and_those_with_stages():
    assert get_args(InformationTensor) == (*TENSORS, "bcf", "net")


def test_each_information_tensor_is_of_the_paper_or_conservative():
    both = (*get_args(PaperTensor), *get_args(ConservativeTensor))
    assert both == get_args(InformationTensor)


def test_importing_the_names_loads_neither_torch_nor_numpy():
    code = (
        "import sys, attnflow.models.literals; "
        "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
