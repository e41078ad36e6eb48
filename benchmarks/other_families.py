"""Try every family of transformers that nobody has entered: does one traced run find an entry?

    .venv/bin/python benchmarks/other_families.py --markdown docs/results/other-families.md --write

Goes through the causal language models, encoders, encoder-decoders and image classifiers of
transformers that are not in `attnflow.capture.FAMILIES`. Each is built tiny and random
(tiny_configs.py), and `find_family` looks for its entry. Prints a row for each, and totals. Takes
a minute. Names of families try these alone.
"""

import argparse
import json
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import support_path  # noqa: F401
import torch
import transformers
from refusals import CAUSES, UNKNOWN
from support.tiny_models import randomised
from tiny_configs import VARIANTS, tiny_config
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from attnflow.capture import FAMILIES, find_family
from attnflow.capture.families import SOFTMAX, Family, family_of
from attnflow.errors import ModelError
from attnflow.models.tested_families import OTHERS

# By kind: tables of its families, with the classes of their models. The first that has one counts.
KINDS: dict[str, tuple[dict[str, Any], ...]] = {
    "decoder": (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,),
    "encoder-decoder": (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,),
    "encoder": (
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    ),
    "vision": (auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,),
}
LARGEST = 3e7  # parameters of a model that is tiny
SECONDS = 60  # that each family may take
FOUND, REFUSED, NOT_BUILT = STATES = ("found", "refused", "not built")


@dataclass(frozen=True)
class Row:
    """The outcome of one family.

    Attributes:
        kind: One of `KINDS`.
        model_type: Name of the family, as its config has it.
        variant: True where the config is that of `VARIANTS`.
        state: One of `STATES`.
        reason: Reason that it was refused or not built for; "" where an entry was found.
        family: The entry that was found.
    """

    kind: str
    model_type: str
    variant: bool
    state: str
    reason: str = ""
    family: Family | None = None

    @property
    def name(self) -> str:
        """Return the family, and what its variant is called."""
        return (
            f"{self.model_type}, {VARIANTS[self.model_type][0]}"
            if self.variant
            else self.model_type
        )


def other_families() -> list[tuple[str, str, bool]]:
    """Return kind and model type of every family that is not entered, and which are variants.

    Decoders and encoder-decoders are no encoders besides, though they may classify.
    """
    found = []
    for kind, tables in KINDS.items():
        names = {name for table in tables for name in table} - set(FAMILIES)
        if kind == "encoder":
            names -= {name for _, name, _ in found}
        found += [(kind, name, False) for name in sorted(names)]
    variants = [(kind, name, True) for kind, name, _ in found if name in VARIANTS]
    return sorted(found + variants, key=lambda x: (list(KINDS).index(x[0]), x[1], x[2]))


def tiny_model(kind: str, model_type: str, variant: bool = False) -> PreTrainedModel:
    """Return a tiny random model of a family."""
    torch.manual_seed(7)
    names = next(table[model_type] for table in KINDS[kind] if model_type in table)
    model_class = getattr(transformers, names if isinstance(names, str) else names[0])
    config = _part(
        tiny_config(model_type, **(VARIANTS[model_type][1] if variant else {})),
        model_class.config_class,
    )
    if kind == "decoder" and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True
    model = model_class(config).eval()
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST:
        raise ValueError(f"it has {size / 1e6:.0f} million parameters; tiny_configs.OWN may help")
    return randomised(model)


def _part(config: PretrainedConfig, wanted: type[PretrainedConfig]) -> PretrainedConfig:
    """Return the part of a config that a class of models reads: mostly all of it."""
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    return next((part for part in parts if isinstance(part, wanted)), config)


def outcome(kind: str, model_type: str, variant: bool = False) -> Row | None:
    """Build a tiny model of a family, and look for its entry; None where it has one by its decoder.

    Some families are others by their classes (gpt-sw3), or hold a decoder that is entered.
    """
    try:
        model = tiny_model(kind, model_type, variant)
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_sentence(error)}"
        return Row(kind, model_type, variant, NOT_BUILT, reason)
    if family_of(model) is not None:
        return None
    try:
        return Row(kind, model_type, variant, FOUND, family=find_family(model))
    except ModelError as error:
        said = _first_sentence(error)
        reason = said.partition(" once: ")[2] or said
        return Row(kind, model_type, variant, REFUSED, reason)


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".")


def _too_long(*_: object) -> None:
    raise TimeoutError(f"it took more than {SECONDS} s")


def limited_outcome(kind: str, model_type: str, variant: bool) -> Row | None:
    """Return the outcome of a family, which is given up after `SECONDS`."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        return outcome(kind, model_type, variant)
    finally:
        signal.alarm(0)


def shown(row: Row) -> str:
    """Return a row as it is printed."""
    entry = row.reason if row.family is None else ", ".join(filter(None, cells(row.family)))
    return f"{row.kind:16}{row.name:28} {row.state:10}{entry}"


def cells(family: Family) -> tuple[str, str, str]:
    """Return the block of an entry, its output, and what is not usual in it."""
    unusual = []
    if family.cross is not None:
        unusual.append(f"cross-attention {' '.join(filter(None, family.cross))}")
    if family.stream:
        unusual.append(f"x enters at {family.stream}")
    if family.probabilities == SOFTMAX:
        unusual.append("attention seen at softmax")
    if family.gates is not None:
        owners = family.gates.owner.replace("|", ", ")
        unusual.append(f"gates {family.gates.attribute} of {owners}")
    if family.parallel is not None:
        unusual.append(f"{family.parallel} in parallel")
    if family.multiplier is not None:
        unusual.append(f"o times {family.multiplier}")
    if family.positions != "given":
        unusual.append(f"positions {family.positions}")
    return family.block, family.output, "; ".join(unusual)


def totals(rows: Sequence[Row]) -> str:
    """Return a table of outcomes by kind."""
    counts = Counter((row.kind, row.state) for row in rows)
    lines = [f"| kind | {' | '.join(STATES)} |", "|---" * 4 + "|"]
    for kind in KINDS:
        lines.append(f"| {kind} | {' | '.join(str(counts[kind, s]) for s in STATES)} |")
    overall = Counter(row.state for row in rows)
    lines.append(f"| all | {' | '.join(str(overall[s]) for s in STATES)} |")
    return "\n".join(lines)


_PAGE = """# Families that nobody has entered

A model of a family without an entry is run once, traced. `attnflow.find_family` reads an
entry from the trace, and accepts it where effects are conserved at every node
([families](../families.md#other-models)). This page has all causal language models, encoders,
encoder-decoders and image classifiers of transformers without an entry. Each is tiny and random,
with the defaults of its config but for sizes (`benchmarks/tiny_configs.py`).

    .venv/bin/python benchmarks/other_families.py --markdown {path} --write

{versions}, float32 on CPU.

- *found*: an entry in which effects are conserved.
- *refused*: no entry; `af`, `gf` and `agf` may still work, which need attention alone.
- *not built*: a package is missing, or transformers refuses every config of the family.

A family stands once for each kind that it has in transformers, but among the encoders only where it
is nothing else. A checkpoint may have other layers than the defaults: each model is traced and
tested by itself. A few families stand here a second time, with settings of checkpoints.

{totals}

## Found

*Block* is the class of the module that takes the residual stream, *output* the module inside that
returns what attention adds to it. Where nothing else is said, attention is seen at transformers'
interface.

{found}

## Refused

By cause, which was read in the families' code. The reasons are what `find_family` states.

{refused}

## Not built

{not_built}
"""


def page(rows: Sequence[Row], path: Path) -> str:
    """Return the page of results, which will be at that path."""
    found = [(r, *cells(r.family)) for r in rows if r.family is not None]
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    not_built = [(r.name, r.kind, r.reason) for r in rows if r.state == NOT_BUILT]
    return _PAGE.format(
        path=path,
        versions=versions,
        totals=totals(rows),
        found=_table(
            ("family", "kind", "block", "output", "besides"),
            [(r.name, r.kind, f"`{block}`", f"`{out}`", more) for r, block, out, more in found],
        ),
        refused="\n\n".join(_refused(rows)),
        not_built=_table(("family", "kind", "reason"), not_built),
    )


def _refused(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each cause of refusals."""
    refused = [row for row in rows if row.state == REFUSED]
    for cause in [*dict.fromkeys(CAUSES.values()), UNKNOWN]:
        given = [r for r in refused if CAUSES.get(r.model_type, UNKNOWN) == cause]
        if given:
            lines = [(r.name, r.kind, r.reason) for r in given]
            yield f"**{cause}.**\n\n{_table(('family', 'kind', 'reason'), lines)}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cleaned = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rows = [f"| {' | '.join(row)} |" for row in (head, *cleaned)]
    return "\n".join([rows[0], "|---" * len(head) + "|", *rows[1:]])


def record(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the outcomes by model type; one that is found in one of its kinds is found."""
    default = [r for r in rows if r.state != NOT_BUILT and not r.variant]
    built = sorted(default, key=lambda r: r.state == FOUND)
    reasons = {r.model_type: r.reason for r in sorted(built, key=lambda r: r.model_type)}
    reasons |= {r.model_type: r.reason for r in built}
    return {"measured": f"transformers {transformers.__version__}", "families": reasons}


def main() -> int:
    """Try the families, and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="model types to try alone")
    parser.add_argument("--markdown", type=Path, help="file that gets the page of results")
    parser.add_argument("--write", action="store_true", help="write what `models --check` reads")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    torch.set_num_threads(1)
    rows = []
    for kind, model_type, variant in other_families():
        if args.names and model_type not in args.names:
            continue
        row = limited_outcome(kind, model_type, variant)
        if row is not None:
            rows.append(row)
            print(shown(row), flush=True)
    print(f"\n{totals(rows)}")
    if args.markdown:
        args.markdown.write_text(page(rows, args.markdown), encoding="utf-8")
    if args.write:
        OTHERS.write_text(json.dumps(record(rows), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
