"""Compare the flow's routes with the heads that solve indirect objects in the literature.

    .venv/bin/python benchmarks/indirect_objects.py --model runs/smollm2

Prompts such as "When Mary and John went to the shop, John gave a book to" rest on heads that find
the repeated name (duplicate and induction heads) and on heads that move the other name to the end
(name movers; Wang et al. 2023). Prints the share of the flow on each kind of edge next to the
attention's, how much the flow on heads agrees with tests of heads that know nothing of the flow,
and how far the log-odds fall without the heads that each of them ranks first. For models laid out
as Llama.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from known_answers import prompts
from scipy.stats import spearmanr
from torch import Tensor
from tqdm import tqdm

from attnflow.evaluation import bootstrap_estimate
from attnflow.evaluation.edge_knockout import ROUTES
from attnflow.methods import Instance, load_adapter
from attnflow.methods.adapter import log_odds_of
from attnflow.methods.model_internals import eager, internals

SEED, REPEATED, ABLATED = 3, 24, 5


@dataclass(frozen=True)
class Places:
    """Tokens of a prompt: the answer's name, both places of the other name, and the last token."""

    answer: int
    first: int
    second: int
    end: int

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """Edges by the work that the literature gives them, as (query, key)."""
        return {
            "end to answer (mover)": (self.end, self.answer),
            "end to other name": (self.end, self.second),
            "second to first (duplicate)": (self.second, self.first),
            "second to after first (induction)": (self.second, self.first + 1),
            "after first to first (previous token)": (self.first + 1, self.first),
        }


def answered(adapter: Any, count: int) -> list[tuple[Instance, Places]]:
    """Return prompts whose names are one token each, and which the model answers."""
    found: list[tuple[Instance, Places]] = []
    for prompt in prompts("indirect-object", SEED):
        content = adapter.encode(prompt.text)
        words = [prompt.text[a:b].strip() for a, b in content.offsets]
        answers = [i for i, word in enumerate(words) if word == prompt.target.strip()]
        others = [i for i, word in enumerate(words) if word == prompt.foil.strip()]
        target = adapter.predicted([adapter.whole_variant(content)])[0]
        if (
            target == adapter.first_token_of(prompt.target)
            and len(answers) == 1
            and len(others) == 2
            and answers[0] > 0  # edges to the first token say nothing
        ):
            places = Places(answers[0], *others, len(words) - 1)
            found.append((Instance(adapter, content, target), places))
        if len(found) == count:
            break
    return found


def heads_of_flow(flow: Tensor, instance: Instance, edge: tuple[int, int]) -> np.ndarray:
    """`(layers, heads)` flow on an edge, by the heads' positive effects there."""
    passes, (query, key) = internals(instance), edge
    effects = (passes.attention * passes.gradient)[:, :, query, key].relu().double()
    share = effects / effects.sum(1, keepdim=True).clamp(min=1e-30)
    return (share * flow[:, query, key][:, None]).numpy()


def heads_of_repeats(adapter: Any) -> dict[str, np.ndarray]:
    """`(layers, heads)` attention to a token's first place, and to that after, in random repeats.

    The test of Olsson et al. (2022): random tokens, twice in a row.
    """
    generator = torch.Generator().manual_seed(SEED)
    half = torch.randint(1000, adapter.model.config.vocab_size, (8, REPEATED), generator=generator)
    with torch.no_grad():
        output = eager(adapter.model)(input_ids=torch.cat([half, half], 1), output_attentions=True)
    weights = torch.stack(output.attentions).mean(1)  # (layers, heads, t, t)
    second = weights[:, :, REPEATED:]
    return {
        "duplicate": second.diagonal(dim1=2, dim2=3).mean(-1).numpy(),
        "induction": second.diagonal(1, dim1=2, dim2=3).mean(-1).numpy(),
    }


@contextmanager
def without_heads(model: Any, heads: np.ndarray, position: int) -> Iterator[None]:
    """Set the output of heads, `(n, 2)` of layer and head, to 0 at a position."""
    size = model.config.hidden_size // model.config.num_attention_heads
    hooks = []
    for layer in sorted(set(heads[:, 0].tolist())):

        def ablate(module: Any, args: Any, of: np.ndarray = heads[heads[:, 0] == layer, 1]) -> Any:
            x = args[0].clone()
            for head in of.tolist():
                x[:, position, head * size : (head + 1) * size] = 0
            return (x,)

        projection = model.model.layers[layer].self_attn.o_proj
        hooks.append(projection.register_forward_pre_hook(ablate))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def top(scores: np.ndarray) -> np.ndarray:
    """`(ABLATED, 2)` the layers and heads of the largest scores."""
    order = np.argsort(-scores, axis=None)[:ABLATED]
    return np.stack(np.unravel_index(order, scores.shape), 1)


def fall(
    found: list[tuple[Instance, Places]], heads: np.ndarray, at: Callable[[Places], int]
) -> str:
    """Return the mean fall of the log-odds without these heads, with its interval."""
    falls = []
    for instance, places in found:
        variants = [instance.adapter.whole_variant(instance.content)]
        whole = log_odds_of(instance.log_probability(variants))[0]
        with without_heads(instance.adapter.model, heads, at(places)):
            falls.append(whole - log_odds_of(instance.log_probability(variants))[0])
    estimate = bootstrap_estimate(np.array(falls))
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a language model")
    parser.add_argument("--prompts", type=int, default=40)
    args = parser.parse_args()
    adapter = load_adapter(args.model)
    found = answered(adapter, args.prompts)
    kinds = list(found[0][1].kinds)
    flows = {kind: [] for kind in kinds}
    weights = {kind: [] for kind in kinds}
    heads = {kind: [] for kind in kinds}
    attended = {kind: [] for kind in kinds}
    for instance, places in tqdm(found):
        fresh = instance.with_empty_cache()
        flow, attention = ROUTES["net1 flow"](fresh), internals(fresh).attention
        between = flow * ~torch.eye(fresh.nodes, dtype=torch.bool)
        # Edges to the first token hold most of the attention, and are left out of both.
        between[:, :, 0] = 0
        mean = attention.mean(1).double() * (between.new_ones(fresh.nodes, fresh.nodes).tril(-1))
        mean[:, :, 0] = 0
        for kind, (query, key) in places.kinds.items():
            flows[kind].append(float(between[:, query, key].sum() / between.sum()))
            weights[kind].append(float(mean[:, query, key].sum() / mean.sum()))
            heads[kind].append(heads_of_flow(flow, fresh, (query, key)))
            attended[kind].append(attention[:, :, query, key].numpy())
    print(f"{len(found)} prompts\n\n| edges | of the flow | of attention |\n|---|---|---|")
    for kind in kinds:
        print(f"| {kind} | {np.mean(flows[kind]):.3f} | {np.mean(weights[kind]):.3f} |")
    by_flow = {kind: np.mean(of, 0) for kind, of in heads.items()}
    by_attention = {kind: np.mean(of, 0) for kind, of in attended.items()}
    print("\nheads of most flow (layer.head), and rank correlation of flow with a test of heads:\n")
    tests = heads_of_repeats(adapter)
    tests = {
        kinds[0]: by_attention[kinds[0]],
        kinds[2]: tests["duplicate"],
        kinds[3]: tests["induction"],
    }
    for kind, test in tests.items():
        names = ", ".join(f"{layer}.{head}" for layer, head in top(by_flow[kind]))
        best = ", ".join(f"{layer}.{head}" for layer, head in top(test))
        rho = spearmanr(by_flow[kind].ravel(), test.ravel())[0]
        print(f"- {kind}: {names}; by the test {best}; {rho:.2f}")
    mover, end = kinds[0], lambda places: places.end
    random = np.random.default_rng(SEED).random(by_flow[mover].shape)
    print(f"\n| {ABLATED} heads set to 0 at the last token | fall of the log-odds |\n|---|---|")
    for name, scores in (
        ("most flow from the answer's name", by_flow[mover]),
        ("most attention to it", by_attention[mover]),
        ("random", random),
    ):
        print(f"| {name} | {fall(found, top(scores), end)} |")


if __name__ == "__main__":
    main()
