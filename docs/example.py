"""Print the tables of docs/example.md: the paper's sentence under every information tensor.

python docs/example.py
"""

from attnflow import Explainer

SENTENCE = "although this dog is not cute, it is very smart."


def main() -> None:
    explainer = Explainer.from_pretrained()
    tensors = ("af", "gf", "agf", "cf", "bcf", "net")
    results = {tensor: explainer(SENTENCE, tensor=tensor) for tensor in tensors}
    results["net, throughput"] = explainer(SENTENCE, readout="throughput")
    first = results["cf"]
    print(f"{first.label} {first.probabilities[first.target]:.1%}\n")
    print(f"| token | {' | '.join(results)} |")
    print(f"|---|{'---|' * len(results)}")
    for i in range(len(first)):
        if not first.special[i]:
            cells = [f"{100 * a.shares[i]:.1f} ({_rank(a.shares, i)})" for a in results.values()]
            print(f"| {first.surface(i)} | {' | '.join(cells)} |")
    shares = [f"{100 * a.special_share:.1f}" for a in results.values()]
    print(f"| *special tokens, of all flow* | {' | '.join(shares)} |")
    without = explainer(SENTENCE.replace("smart", "[MASK]"), target=first.label, tensor="cf")
    _print_signed(results["net"])
    print(f"\nwith [MASK] for *smart*: {without.label} {without.probabilities[first.target]:.1%}")


def _print_signed(a) -> None:
    """Print contributions and signed scores of the ordinary tokens."""
    print(f"\nlog-odds {a.explained:.2f}; contributions add up to {a.contributions.sum():.2f}\n")
    print("| token | contribution | signed score |")
    print("|---|---|---|")
    for i in range(len(a)):
        if not a.special[i]:
            print(f"| {a.surface(i)} | {a.contributions[i]:.2f} | {a.signed_scores[i]:.2f} |")


def _rank(shares, index: int) -> int:
    return 1 + int((shares > shares[index]).sum())


if __name__ == "__main__":
    main()
