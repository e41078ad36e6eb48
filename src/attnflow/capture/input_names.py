"""Names of a model's inputs: the token ids of each side, and the attention mask over them."""

# In the order of the nodes: the text of a model of one stack or an encoder-decoder's source, and
# then what its decoder reads.
MASK_OF_IDS = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}

# `(batch, levels, t, width)` features that early layers of a decoder add: see decoder_inputs.py.
DEEPSTACK = "deepstack_embeds"
