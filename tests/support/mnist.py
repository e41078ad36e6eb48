"""Vision transformers that were really trained, on MNIST, as models of transformers.

Two checkpoints of two people, in two shapes. `cls_prenorm` is a ViT whose attention scores
are scaled by the whole width; the difference goes into its queries, and a head of two layers takes
the place of the linear one. `mean_prenorm` has patches that overlap, no class token, and the mean
of the patches: an I-JEPA whose patches are cut at a smaller stride. The images are MNIST's own test
images, as their files have them.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    IJepaConfig,
    IJepaForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

LABELS = {i: str(i) for i in range(10)}
SHAPE = dict(image_size=28, num_channels=1, id2label=LABELS, hidden_dropout_prob=0.0)
PARTS = ("q_proj", "k_proj", "v_proj")
CLS_LAYER = {  # names of a layer's weights here, and in the checkpoint
    "attention.o_proj": "0.fn.fn.to_out",
    "layernorm_before": "0.fn.norm",
    "layernorm_after": "1.fn.norm",
    "mlp.fc1": "1.fn.fn.net.0",
    "mlp.fc2": "1.fn.fn.net.2",
}
MEAN_LAYER = {
    "attention.o_proj": "self_attn.out_proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


def processor():
    """Image processor whose pixel values all of the models read."""
    return ViTImageProcessor(
        size={"height": 28, "width": 28}, do_resize=False, image_mean=[0.1307], image_std=[0.3081]
    )


def images(folder: Path, count: int):
    """`(count, 28, 28)` uint8 images and `(count,)` digits."""
    data = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    digits = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(data, np.uint8, count * 28 * 28, offset=16).reshape(count, 28, 28)
    return pixels, np.frombuffer(digits, np.uint8, count, offset=8)


def cls_prenorm(folder: Path) -> ViTForImageClassification:
    """Sixteen patches of 7 x 7 and a class token; 6 layers, 8 heads, width 64."""
    old = _weights(folder / "vit_patch7_cls_gaurav.pth")
    wide = len(old["transformer.layers.0.1.fn.fn.net.0.bias"])
    config = ViTConfig(**_sizes(64, 6, wide), patch_size=7, qkv_bias=False)
    own = ViTForImageClassification(config)
    own.vit.layernorm = nn.Identity()  # its norms are inside the layers, and none follows them

    def projections(block):
        queries, keys, values = old[f"{block}.0.fn.fn.to_qkv.weight"].chunk(3)
        return {"weight": (queries * 64**-0.5 / 8**-0.5, keys, values)}

    state = {
        "vit.embeddings.cls_token": old["cls_token"],
        "vit.embeddings.position_embeddings": old["pos_embedding"],
        **_patches("vit", old["patch_to_embedding.weight"], old["patch_to_embedding.bias"], 7),
        **_layers(old, "transformer.layers", "vit.layers", 6, projections, CLS_LAYER),
    }
    return _with_head(own, 64, state, old, "mlp_head")


def mean_prenorm(folder: Path) -> IJepaForImageClassification:
    """169 patches of 4 x 4, two pixels apart, and their mean; 4 layers, 8 heads, width 48."""
    old = _weights(folder / "vit_patch4s2_prenorm_msdanatr.pt")
    own = IJepaForImageClassification(IJepaConfig(**_sizes(48, 4, 128), patch_size=4))
    embeddings = own.ijepa.embeddings
    embeddings.patch_embeddings.projection = nn.Conv2d(1, 48, kernel_size=4, stride=2)
    embeddings.position_embeddings = nn.Parameter(old["pos_embed"])

    def projections(block):
        kinds = ("weight", "bias")
        return {kind: old[f"{block}.self_attn.in_proj_{kind}"].chunk(3) for kind in kinds}

    state = {
        "ijepa.embeddings.position_embeddings": old["pos_embed"],
        **_patches("ijepa", old["patch_embed.proj.weight"], old["patch_embed.proj.bias"], 4),
        **_layers(old, "encoder.layers", "ijepa.layers", 4, projections, MEAN_LAYER),
        **_moved(old, "", "ijepa", {"layernorm": "norm"}),
    }
    return _with_head(own, 48, state, old, "classifier")


def _sizes(width, layers, intermediate):
    return dict(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        intermediate_size=intermediate,
        layer_norm_eps=1e-5,
        **SHAPE,
    )


def _layers(old, blocks, names, count, projections, moved):
    """State of all layers: `projections` gives queries, keys and values of a block, by kind."""
    state = {}
    for layer in range(count):
        block, name = f"{blocks}.{layer}", f"{names}.{layer}"
        for kind, parts in projections(block).items():
            state |= {f"{name}.attention.{p}.{kind}": w for p, w in zip(PARTS, parts, strict=True)}
        state |= _moved(old, block, name, moved)
    return state


def _with_head(own, width, state, old, head):
    """The model with a head of two layers in place of the linear one, its state loaded."""
    own.classifier = nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, 10))
    state |= _moved(old, head, "classifier", {"0": "0", "2": _second(old, head)})
    own.load_state_dict(state, strict=True)
    return own.eval()


def _weights(file):
    return torch.load(file, weights_only=True, map_location="cpu")


def _patches(prefix, weight, bias, side):
    """A convolution of patches, from a linear layer of their pixels."""
    path = f"{prefix}.embeddings.patch_embeddings.projection"
    return {f"{path}.weight": weight.view(-1, 1, side, side), f"{path}.bias": bias}


def _moved(old, block, name, moved):
    """Weights and biases under other names."""
    return {
        ".".join(filter(None, (name, to, kind))): old[".".join(filter(None, (block, of, kind)))]
        for to, of in moved.items()
        for kind in ("weight", "bias")
    }


def _second(old, head):
    """Index of the second linear layer in a head, after dropout or not."""
    return max(name.split(".")[1] for name in old if name.startswith(head))
