"""Measurements of each family: how far an answer in a batch is off from the same answer alone.

Three texts of different lengths, or three images, are captured alone and together: padded on the
right, on the left, or each on another side, on the CPU or another device, loaded with one back end
or another. An error is the largest difference of any capacity, in units of the largest.

The tests hold the errors against TOLERANCE; benchmarks/tested_families.py writes them, with what
else was found, into the table that `attnflow models` prints. Read next: tiny_models.py.
"""

import copy
from functools import cache

import torch
from transformers.models.auto import modeling_auto

from attnflow import AttnflowError, Explainer, InputError
from attnflow.capture import TENSORS, Objective, capture
from attnflow.capture.objectives import class_logits, logits_at
from attnflow.models.tasks import IMAGE_TASKS, TEXT_TASKS
from support.tiny_models import HEADS, TINY, build

# Largest errors that count as the same. Scores are in units of the flow's value, at a gap of 1e-2.
TOLERANCE = {
    "capacities, CPU": 2e-5,
    "capacities, CUDA": 2e-4,  # of another order of additions in matrix products
    "scores": 2e-4,
}
RIGHT, LEFT, MIXED = ("right",) * 3, ("left",) * 3, ("left", "right", "left")
SIDES = {"right": RIGHT, "left": LEFT, "mixed": MIXED}
HALF_TENSORS = ("agf", "cf")  # of one pass each, one by the model's gradients and one frozen
STAGED = ("bcf", "net")  # judged by scores: their tensors are those of several passes
BACK_ENDS = ("eager", "sdpa", "flex_attention")
_LENGTHS = ((6, 3), (9, 4), (2, 2))  # of three texts, and of what an encoder-decoder has written
_TARGETS = torch.tensor([0, 2, 1])


def texts(seed=3):
    """Token ids of texts and prefixes, no two of which begin alike."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "input_ids": torch.randint(3, 40, (s,), generator=generator),
            "decoder_input_ids": torch.randint(3, 40, (p,), generator=generator),
        }
        for s, p in _LENGTHS
    ]


def images(model, seed=3):
    """Three images, each (1, channels, height, width)."""
    size = getattr(model.config, "vision_config", model.config).image_size
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 1, 3, height, width, generator=generator)


def padded(examples, sides, pad):
    """`(rows, t)` ids with `pad` on each row's side, and the mask."""
    t = max(len(ids) for ids in examples)
    rows, masks = [], []
    for ids, side in zip(examples, sides, strict=True):
        before = t - len(ids) if side == "left" else 0
        widths = (before, t - len(ids) - before)
        rows.append(torch.nn.functional.pad(ids, widths, value=pad))
        masks.append(torch.nn.functional.pad(torch.ones_like(ids), widths))
    return torch.stack(rows), torch.stack(masks)


def batch(model, kind, examples, sides):
    """Padded inputs of examples of a kind, and the `(rows, nodes)` mask of their nodes."""
    pad = model.config.get_text_config().pad_token_id
    names = ["input_ids"] + ["decoder_input_ids"] * (kind == "encoder-decoder")
    inputs, masks = {}, []
    for name in names:
        ids, mask = padded([example[name] for example in examples], sides, pad)
        inputs |= {name: ids, name.replace("input_ids", "attention_mask"): mask}
        masks.append(mask.bool())
    return inputs, torch.cat(masks, dim=1)


def read_image(output):
    """Return the logits, or the image's embedding where the model is CLIP's tower."""
    logits = class_logits(output)
    return output.image_embeds if logits is None else logits


def captured(model, kind, examples, rows, sides, tensor):
    """Capture some of the examples; return capacities of each row's own nodes, and its logits."""
    target = _TARGETS[rows]
    if kind == "vision":
        inputs = {"pixel_values": torch.cat([examples[i] for i in rows])}
        got = capture(model, inputs, Objective(target, read=read_image), tensor=tensor)
    else:
        inputs, mask = batch(model, kind, [examples[i] for i in rows], [sides[i] for i in rows])
        objective = Objective(target)
        if not type(model).__name__.endswith(HEADS["encoder"]):
            last = mask.shape[1] - 1 - mask.int().flip(1).argmax(1)  # a text's, or a prefix's
            side = inputs["input_ids"].shape[1] if kind == "encoder-decoder" else 0
            objective = Objective(target, read=logits_at(last - side), position=last)
        got = capture(model, inputs, objective, tensor=tensor)
    found = zip(got.capacities, got.mask, got.logits, strict=True)
    return [(c[:, m][:, :, m].cpu(), logits.cpu()) for c, m, logits in found]


def largest_difference(found, wanted):
    """Largest difference between two lists of answers, in units of the largest entry of each."""
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for row, own in pairs
               for a, b in zip(row, own, strict=True))  # fmt: skip


def head_for(name, side):
    """Return the head for a side of padding.

    A text classifier reads the first token, which on the left is padding: there each token is read.
    """
    token = TINY[name].kind == "encoder" and side != "right"
    return "ForTokenClassification" if token else None


@cache
def alone(name, tensor, head):
    """The answers, one example at a time."""
    model, kind = build(name, head=head), TINY[name].kind
    examples = images(model) if kind == "vision" else texts()
    return [captured(model, kind, examples, [i], RIGHT, tensor)[0] for i in range(3)]


@cache
def error(name, tensor, *, side="right", attention=None, device="cpu"):
    """Largest difference of three examples in a batch from each alone."""
    head, kind = head_for(name, side), TINY[name].kind
    model = build(name, head=head, attention=attention).to(device)
    examples = images(model) if kind == "vision" else texts()
    together = captured(model, kind, examples, [0, 1, 2], SIDES[side], tensor)
    return largest_difference(together, alone(name, tensor, head))


@cache
def half_precision_error(name, tensor, dtype):
    """Largest sum of differences from the same weights in float32, over the sum of capacities."""
    half, kind = build(name).to(dtype), TINY[name].kind
    full = copy.deepcopy(half).float()
    examples = images(full) if kind == "vision" else texts()
    wanted, found = (
        captured(model, kind, examples, [0, 1, 2], RIGHT, tensor) for model in (full, half)
    )
    assert {p.dtype for p in half.parameters()} == {dtype}
    return max(
        float((a - b).abs().sum() / a.abs().sum())
        for (a, _), (b, _) in zip(wanted, found, strict=True)
    )


@cache
def score_error(name, tensor):
    """Largest difference of scores of `Explainer` in a batch from those of each example alone."""
    model = build(name)
    explainer, options = Explainer(model), dict(tensor=tensor, keep_unsolved=True)
    if TINY[name].kind == "vision":
        argument, rows = "pixel_values", torch.cat(list(images(model)))
        options |= dict(target=valued(model), neutral=0)
    else:
        argument, rows = "input_ids", [text["input_ids"].tolist() for text in texts()]
    together = explainer(**{argument: rows}, **options)
    single = [explainer(**{argument: row}, **options) for row in rows]
    assert any(a.certificate.value for a in single), "a degenerate model tests nothing"
    worst = 0.0
    for a, b in zip(together, single, strict=True):
        assert (a.tokens, a.target) == (b.tokens, b.target)
        # Through a random model of a few tokens nothing may flow: then nothing may in company.
        scale = b.certificate.value or 1.0
        worst = max(worst, float(abs(a.scores - b.scores).max() / scale))
    return worst


def works(name, tensor):
    """Return whether a tensor's answers are the same in a batch as alone."""
    if tensor not in STAGED:
        return error(name, tensor) <= TOLERANCE["capacities, CPU"]
    return score_error(name, tensor) <= TOLERANCE["scores"]


def classes_of(name):
    """Return the family's classes by task, from the tables of transformers."""
    tasks = IMAGE_TASKS if TINY[name].kind == "vision" else TEXT_TASKS
    tables = [(task.name, task.table) for task in tasks]
    found = {}
    for task, table in tables:
        known = getattr(modeling_auto, table).get(model_type(name), ())
        if known and (task != "sentence-similarity" or TINY[name].kind != "vision"):
            found[task] = known if isinstance(known, str) else known[0]
    own = TINY[name].prefix + (TINY[name].head or HEADS[TINY[name].kind])
    return found or {"image-feature-extraction": own}  # an image tower alone


def coordinate(output):
    """`(batch,)` first coordinate of each image's embedding, of any image tower."""
    own = getattr(output, "image_embeds", None)
    return (output.last_hidden_state.mean(1) if own is None else own)[:, 0]


def valued(model):
    """Return the target for a model of images: None for the predicted class, or a function."""
    return None if type(model).__name__.endswith(HEADS["vision"]) else coordinate


def answers(name, task):
    """Return whether `Explainer` explains this task."""
    tiny, head = TINY[name], classes_of(name)[task].removeprefix(TINY[name].prefix)
    if tiny.kind == "encoder" and task == "text-generation":
        return False  # encoders have such a class, and no use for it
    labels = {"num_labels": 2} if task == "question-answering" else {}  # begin and end
    model = build(name, head=head, **labels)
    try:
        if tiny.kind == "vision":
            a = Explainer(model)(pixel_values=images(model)[0, 0], target=valued(model))
        else:
            ids = texts()[1]["input_ids"].tolist()
            a = Explainer(model)(input_ids=ids, **_DECISIONS.get(task, {}))
    except AttnflowError:
        return False
    return a.task == task and a.certificate.is_certified


# What is asked of models that do not decide about a whole text, or read two.
_DECISIONS = {
    "fill-mask": {"position": 2},
    "token-classification": {"position": 2},
    "question-answering": {"target": lambda output: output.start_logits[:, 2]},
    "sentence-similarity": {"target": lambda output: output.last_hidden_state[:, -1].sum(-1)},
}


def padding(name):
    """Return the sides on which padding leaves the answer as it is; the others are refused."""
    found = []
    for side in ("right", "left") if TINY[name].kind != "vision" else ():
        try:
            error(name, "agf", side=side)
        except InputError:
            continue
        found.append(side)
    return found


def loads(name, attention):
    """Return whether transformers loads the family with this back end."""
    try:
        build(name, attention=attention)
    except (ValueError, ImportError):
        return False
    return True


def model_type(name):
    """Return the family's `model_type` in transformers."""
    return name.split()[0]


def _half_error(forms, dtype):
    errors = [
        half_precision_error(name, tensor, dtype) for name in forms for tensor in HALF_TENSORS
    ]
    return float(f"{max(errors):.0e}")


def measured(kind_of):
    """Return the table's row of a family, over all its forms."""
    forms = [name for name in TINY if model_type(name) == kind_of]
    first, kind = forms[0], TINY[forms[0]].kind
    sides = padding(first)
    errors = [error(n, t, side=s) for n in forms for t in ("agf", "cf") for s in sides or ["right"]]
    return {
        "name": TINY[first].name,
        "model_type": kind_of,
        "kind": kind,
        "tasks": [task for task in classes_of(first) if answers(first, task)],
        "tensors": [t for t in (*TENSORS, *STAGED) if all(works(name, t) for name in forms)],
        "back_ends": [b for b in BACK_ENDS if loads(first, b) and _alike(first, b)],
        "padding": sides,
        "error": float(f"{max(errors):.0e}"),
        "bfloat16": _half_error(forms, torch.bfloat16),
        "float16": _half_error(forms, torch.float16),
    }


def _alike(name, attention):
    return error(name, "agf", attention=attention) <= TOLERANCE["capacities, CPU"]
