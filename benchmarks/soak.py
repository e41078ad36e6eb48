"""Mixed calls in four threads for an hour: memory, handles, and answers equal to those made alone.

    python benchmarks/soak.py --minutes 60

Three models are shared by all threads: the embedded classifier, and a decoder and a vision
Transformer of random weights. Calls are drawn at random from a list: single texts and batches of 3
to 400 tokens, every information tensor, merged tokens, continuations, images, saving and loading,
pages, and calls that must fail. Each answer is compared with the one that the same call gave before
the threads began, bit by bit. Ends with code 1 if one differs.
"""

import argparse
import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

from attnflow import Explainer, load
from attnflow.errors import AttnflowError

THREADS = 4
SENTENCE = "although this film is slow and not short , it is a very fine one"
LENGTHS = (3, 12, 40, 120, 400)
TENSORS = ("net", "bcf", "cf", "agf", "gf", "af")
SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)

Call = Callable[[], Any]


def explainers() -> tuple[Explainer, Explainer, Explainer]:
    """Return the three models that all threads share."""
    torch.manual_seed(0)
    ends = dict(vocab_size=200, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    decoder = LlamaForCausalLM(LlamaConfig(**SIZES, **ends, max_position_embeddings=512))
    vision = ViTForImageClassification(ViTConfig(**SIZES, image_size=32, patch_size=4))
    return Explainer.from_pretrained(), Explainer(decoder.eval()), Explainer(vision.eval())


def calls(folder: Path) -> dict[str, Call]:
    """Return the calls by their names; each gives the same answer every time."""
    classifier, decoder, vision = explainers()
    texts = [" ".join(islice(cycle(SENTENCE.split()), n)) for n in LENGTHS]
    ids = torch.arange(3, 403) % 190 + 3
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found: dict[str, Call] = {}
    for tensor in TENSORS:
        for text in texts[:4]:
            found[f"{tensor}, {len(text.split())} words"] = lambda text=text, tensor=tensor: (
                classifier(text, tensor=tensor)
            )
        found[f"{tensor}, batch"] = lambda tensor=tensor: classifier(texts[:3], tensor=tensor)
        found[f"{tensor}, image"] = lambda tensor=tensor: vision(pixel_values=pixels, tensor=tensor)
        for n in LENGTHS[:4]:
            found[f"{tensor}, decoder, {n} tokens"] = lambda n=n, tensor=tensor: decoder(
                input_ids=ids[:n], tensor=tensor
            )
    found |= {
        "every class": lambda: classifier(texts[1], target="all"),
        "merged": lambda: classifier(texts[4], coarsen="word", truncate=True),
        "decoder, 400 tokens": lambda: decoder(input_ids=ids),
        "continuation": lambda: decoder(input_ids=ids[:12], continuation=3),
        "page": lambda: page(classifier(texts[2]), folder),
        "estimate": lambda: classifier.estimate(texts[2]).activations,
        "saved": lambda: saved(classifier(texts[1], edges=True), folder),
        "wrong target": lambda: classifier(texts[1], target="no such label"),
        "wrong ids": lambda: decoder(input_ids=[[5, 500]]),
        "wrong pixels": lambda: vision(pixel_values=torch.full((3, 32, 32), torch.nan)),
        "no memory": lambda: classifier(texts[3], max_memory="1KB"),
        "failing function": lambda: classifier(texts[1], target=lambda output: 1 / 0),
    }
    return found


def saved(attribution: Any, folder: Path) -> Any:
    """Return the attribution after a way through a file."""
    file = folder / f"{threading.get_ident()}.attnflow"
    attribution.save(file, overwrite=True)
    return load(file)


def page(attribution: Any, folder: Path) -> str:
    """Return the attribution's page."""
    file = folder / f"{threading.get_ident()}.html"
    return attribution.to_html(file, overwrite=True).read_text("utf-8")


def outcome(call: Call) -> Any:
    """Return the numbers of a call's answer, or its error in words."""
    try:
        result = call()
    except AttnflowError as error:
        return f"{type(error).__name__}: {error}"
    return numbers(result)


def numbers(result: Any) -> Any:
    """Return an answer as values that are equal where it is the same bit by bit."""
    if isinstance(result, list | tuple):
        return [numbers(one) for one in result]
    return result.to_dict() if hasattr(result, "to_dict") else result


class Soak:
    """Threads that draw calls until a moment, and what they count."""

    def __init__(self, named: dict[str, Call], end: float) -> None:
        self.named, self.end = named, end
        self.expected = {name: outcome(call) for name, call in named.items()}
        self.made: Counter[str] = Counter()
        self.different: Counter[str] = Counter()

    def run(self, seed: int) -> None:
        """Draw and compare calls until the end."""
        names, draw = list(self.named), random.Random(seed)
        while time.monotonic() < self.end:
            name = draw.choice(names)
            if outcome(self.named[name]) != self.expected[name]:
                self.different[name] += 1
            self.made[name] += 1

    @property
    def failed_as_expected(self) -> int:
        """Calls so far that must fail."""
        return sum(n for name, n in self.made.items() if isinstance(self.expected[name], str))


def resident() -> float:
    """Return the process's resident memory, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def row(soak: Soak, begun: float) -> str:
    """Return a row of the table for this moment."""
    gc.collect()
    handles = len(os.listdir("/proc/self/fd"))
    minutes = (time.monotonic() - begun) / 60
    counts = (sum(soak.made.values()), soak.failed_as_expected, sum(soak.different.values()))
    shown = " | ".join(f"{n:,}" for n in counts)
    objects = len(gc.get_objects())
    threads = threading.active_count()
    return f"| {minutes:.0f} | {shown} | {resident():.0f} | {objects:,} | {handles} | {threads} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rows", type=int, default=10, help="of the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(calls(Path(folder)), end=0.0)
        begun = time.monotonic()
        soak.end = begun + 60 * args.minutes
        threads = [threading.Thread(target=soak.run, args=(seed,)) for seed in range(THREADS)]
        print("| minutes | calls | failed, as they must | different answers | resident MB "
              "| Python objects | open files | threads |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|")
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(min(60 * args.minutes / args.rows, max(soak.end - time.monotonic(), 1)))
            print(row(soak, begun), flush=True)
        for thread in threads:
            thread.join()
    for name, count in soak.different.items():
        print(f"different from the answer alone: {name}, {count} times", file=sys.stderr)
    return 1 if soak.different else 0


if __name__ == "__main__":
    sys.exit(main())
