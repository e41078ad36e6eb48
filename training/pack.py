"""Pack a fine-tuned classifier into the folder that attnflow embeds, and measure what that costs.

python training/pack.py --model runs/sst2 --dev sst2/dev.tsv \\
    --out src/attnflow/models/embedded_model
"""

import argparse
import json
from pathlib import Path

import safetensors.numpy
from finetune import accuracy, read_tsv
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attnflow.models.embedded import WEIGHTS, pack, unpack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a folder of finetune.py")
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    model = AutoModelForSequenceClassification.from_pretrained(args.model)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows, length = read_tsv(args.dev), model.config.max_position_embeddings
    before = accuracy(model, tokenizer, rows, length)
    packed = pack(model.state_dict())
    model.load_state_dict(unpack(packed))
    after = accuracy(model, tokenizer, rows, length)

    args.out.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    safetensors.numpy.save_file(packed, args.out / WEIGHTS)
    record = json.loads((args.model / "training.json").read_text())
    record |= {"dev_accuracy_packed": after, "dev_examples": len(rows)}
    (args.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    print(f"accuracy {before:.2f} % before, {after:.2f} % after packing; {size:.1f} MB")


if __name__ == "__main__":
    main()
