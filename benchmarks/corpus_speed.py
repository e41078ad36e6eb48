"""The speed of a run over a corpus: beside its parts, plain loops, and captum's and shap's loops.

    OMP_NUM_THREADS=1 python benchmarks/corpus_speed.py DATA/sst2/dev.tsv --texts 256

Each line is texts a second, from one run of this command. "Parts alone" are the passes and solves
of the same batches: their share of a run's time is what reading, rows and files leave over.
captum's and shap's loops explain as many texts as 30 seconds allow.
"""

import argparse
import csv
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from attnflow import Explainer, explain_corpus
from attnflow.corpus.run import SHARD_ROWS
from attnflow.explainer.each import Question, explain_each
from attnflow.explainer.options import CallOptions
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.inputs.given import Given

ENOUGH = 30.0  # seconds of a loop that is only compared with
EVALUATIONS = 500  # of shap's Partition explainer, its default
STEPS = 50  # of captum's integrated gradients, its default


def read(file: Path, count: int) -> list[str]:
    """Return the first texts of a table."""
    with open(file, encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row["text"] for row in islice(rows, count)]


def rate(texts: Iterable[str], explain: Callable[[str], object], enough: float) -> float:
    """Return texts a second of a loop, which ends after so many seconds at the latest."""
    begin, done = time.perf_counter(), 0
    for text in texts:
        explain(text)
        done += 1
        if time.perf_counter() - begin > enough:
            break
    return done / (time.perf_counter() - begin)


def parts(explainer: Explainer, texts: list[str]) -> float:
    """Return texts a second of the passes and solves alone, in the batches of a run."""
    begin = time.perf_counter()
    for start in range(0, len(texts), SHARD_ROWS):
        some = [
            Question(Given(text), TargetOptions()) for text in texts[start : start + SHARD_ROWS]
        ]
        explain_each(explainer, some, CallOptions())
    return len(texts) / (time.perf_counter() - begin)


def run(texts: list[str], explainer: Explainer | str, rows: int, workers: int | None) -> float:
    """Return texts a second of a run, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        explain_corpus(texts, explainer, out=Path(folder) / "out", shard_rows=rows, workers=workers)
        return len(texts) / (time.perf_counter() - begin)


def captum_loop(explainer: Explainer) -> Callable[[str], object]:
    """Layer integrated gradients of the embeddings, for the predicted class."""
    from captum.attr import LayerIntegratedGradients

    model, tokenizer = explainer.model, explainer.tokenizer

    def logits(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, attention_mask=mask).logits

    gradients = LayerIntegratedGradients(logits, model.get_input_embeddings())

    def explain(text: str) -> object:
        given = tokenizer(text, return_tensors="pt")
        ids, mask = given["input_ids"], given["attention_mask"]
        with torch.no_grad():
            target = int(logits(ids, mask).argmax())
        neutral = torch.full_like(ids, tokenizer.pad_token_id)
        found = gradients.attribute(
            ids, neutral, additional_forward_args=(mask,), target=target, n_steps=STEPS
        )
        return found.sum(-1)

    return explain


def shap_loop(explainer: Explainer) -> Callable[[str], object]:
    """SHAP's Partition explainer for texts, all classes at once as it does."""
    import shap

    model, tokenizer = explainer.model, explainer.tokenizer

    @torch.no_grad()
    def probabilities(texts: np.ndarray) -> np.ndarray:
        given = tokenizer([str(text) for text in texts], return_tensors="pt", padding=True)
        return model(**given).logits.softmax(-1).numpy()

    explained = shap.Explainer(probabilities, shap.maskers.Text(tokenizer), silent=True)
    return lambda text: explained([text], max_evals=EVALUATIONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="table with a column text, separated by tabs")
    parser.add_argument("--texts", type=int, default=256)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    texts, explainer = read(args.file, args.texts), Explainer.from_pretrained()
    explainer(texts[:32], progress=False)  # compiled before anything is timed
    torch.set_num_threads(1)
    cpus = os.cpu_count() or 1
    measured: dict[str, float] = {}

    def show(name: str, found: float) -> None:
        measured[name] = found
        print(f"{found:8.2f}  {name}", flush=True)

    print("texts/s")
    show("parts alone, one thread", parts(explainer, texts))
    show("run in this process, one thread", run(texts, explainer, SHARD_ROWS, None))
    rows = max(16, min(SHARD_ROWS, len(texts) // (4 * cpus)))
    name = f"run with {cpus} processes, shards of {rows} rows, their start included"
    show(name, run(texts, "attnflow/minilm-l6-sst2", rows, cpus))
    show("loop over Explainer, one thread", rate(texts, explainer, ENOUGH))
    torch.set_num_threads(cpus)
    show(f"loop over Explainer, {cpus} threads", rate(texts, explainer, ENOUGH))
    show(
        f"captum, integrated gradients of {STEPS} steps",
        rate(texts, captum_loop(explainer), ENOUGH),
    )
    show(f"shap, Partition of {EVALUATIONS} evaluations", rate(texts, shap_loop(explainer), ENOUGH))
    alone, one, many = list(measured.values())[:3]
    loop = max(list(measured.values())[3:5])
    print(
        f"run / parts alone: {one / alone:.1%}; {cpus} processes / faster loop: {many / loop:.2f}"
    )


if __name__ == "__main__":
    main()
