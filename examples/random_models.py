"""Make a tiny model with random weights for each task, so that the examples run without a download.

    python examples/random_models.py

Each is a folder in runs/random. Their answers mean nothing: put a model of your own in their place.
"""

from pathlib import Path
from typing import Any

import torch
import transformers

from attnflow import Explainer

OUT = Path("runs/random")
SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
PERSONS = {0: "nobody", 1: "person"}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "question-answering": ("BertForQuestionAnswering", {}),
    "sentence-similarity": ("BertModel", {}),
    "token-classification": ("BertForTokenClassification", dict(id2label=PERSONS)),
    "fill-mask": ("BertForMaskedLM", {}),
    "text2text-generation": (
        "T5ForConditionalGeneration",
        dict(d_model=32, d_ff=64, d_kv=8, num_layers=3, num_heads=4, decoder_start_token_id=0),
    ),
    "image-classification": (
        "ViTForImageClassification",
        dict(image_size=112, id2label={0: "cat", 1: "dog"}),
    ),
}


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    tokenizer = Explainer.from_pretrained().tokenizer
    for task, (name, settings) in MODELS.items():
        torch.manual_seed(0)
        kind = getattr(transformers, name)
        sizes = {} if name.startswith("T5") else SIZES
        words = {} if name.startswith("ViT") else dict(vocab_size=len(tokenizer))
        model = kind(kind.config_class(**sizes, **words, **settings))
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)  # far enough from 0 that tokens differ
        model.save_pretrained(OUT / task)
        reader = tokenizer
        if name.startswith("ViT"):
            reader = transformers.ViTImageProcessorPil(size={"height": 112, "width": 112})
        reader.save_pretrained(OUT / task)
        print(f"wrote {OUT / task}")


if __name__ == "__main__":
    main()
