"""Tiny random models of texts, sharp enough that tokens differ, and their tokenizer."""

import copy

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from attnflow import Explainer
from support.tiny_models import BART_SIZES, T5_SIZES

PROMPT = "the dog is not"
SOURCE = "the dog is not good"
CHAT_TEMPLATE = (
    "{% for m in messages %}[CLS]{{ m['role'] }}: {{ m['content'] }}[SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant:{% endif %}"
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = "a the film is not good bad very dull smart dog cute it was never but . , ! ' - t don"
PIECES = [letter for letter in "abcdefghijklmnopqrstuvwxyz"] + ["##ly", "##ing", "##s", "##er"]
TEXTS = [
    "the film is not good, but it was never dull.",
    "a smart dog!",
    "bad",
    "the dullest, dullest films",
]
LABELS = ("negative", "neutral", "positive")
READER = dict(
    vocab_size=100,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
    pad_token_id=0,
)
LANGUAGE_MODELS = {  # the settings of each class besides READER's
    "GPT2LMHeadModel": {},
    "GPTNeoXForCausalLM": {},
    "OPTForCausalLM": dict(ffn_dim=24, word_embed_proj_dim=16),
    "LlamaForCausalLM": dict(num_key_value_heads=1),
    "MistralForCausalLM": dict(num_key_value_heads=1, sliding_window=3),
    "Qwen2ForCausalLM": dict(num_key_value_heads=1),
    "Qwen3ForCausalLM": dict(num_key_value_heads=1, head_dim=8),
    "Gemma2ForCausalLM": dict(num_key_value_heads=1, head_dim=8),
    "Gemma3ForCausalLM": dict(num_key_value_heads=1, head_dim=8),
    "PhiForCausalLM": dict(num_key_value_heads=1),
    "Phi3ForCausalLM": dict(num_key_value_heads=1),
}
T5 = T5_SIZES | dict(d_kv=8, num_heads=2)
BART = BART_SIZES | dict(
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    max_position_embeddings=32,
    forced_eos_token_id=None,
)
ENCODER_DECODERS = {
    "T5ForConditionalGeneration": T5,
    "BartForConditionalGeneration": BART,
    "MarianMTModel": BART,
}


def wordpiece() -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece like BERT's, with every letter in its vocabulary."""
    letters = [f"##{letter}" for letter in PIECES if len(letter) == 1]
    vocabulary = dict.fromkeys([*SPECIAL, *WORDS.split(), *PIECES, *letters])
    ids = {token: i for i, token in enumerate(vocabulary)}
    raw = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def sharp(name, *, seed=5, **settings):
    """A random model of a class, sharp enough that tokens differ, in evaluation mode."""
    torch.manual_seed(seed)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def tiny_model(family="Bert", *, labels=LABELS, head="SequenceClassification", seed=5, **options):
    """A model of a family, with a head or with none."""
    names = dict(
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
    )
    name = family + (f"For{head}" if head else "Model")
    return sharp(name, seed=seed, **(READER | names | options))


def language_model(name="LlamaForCausalLM", **options):
    ends = dict(bos_token_id=2, eos_token_id=3)
    return sharp(name, **(READER | ends | LANGUAGE_MODELS[name] | options))


def encoder_decoder(tokenizer, name="T5ForConditionalGeneration", **options):
    own = ENCODER_DECODERS[name] | dict(
        vocab_size=len(tokenizer),
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
    )
    return Explainer(sharp(name, **own, **options), tokenizer, name=name)


def next_log_probabilities(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


def bare(tokenizer):
    """The tokenizer as a language model has it: it adds no special tokens."""
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    return own
