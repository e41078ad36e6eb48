"""Causes for which `find_family` refuses families of transformers, read in their code.

A family that is found meanwhile may stay here; one that is missing has the cause `UNKNOWN`.
"""

UNKNOWN = "Not looked at"
_LISTED = {
    "Some layers, or all, have linear attention, a state space or a convolution in place of "
    "attention, or beside it": """
        bailing_hybrid bamba convbert falcon_h1 falcon_mamba granitemoehybrid inkling_text jamba
        kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2 minimax nemo_speechlm nemotron_h olmo_hybrid
        qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next qwen4_exp qwen4_exp_text
        recurrent_gemma rwkv xlstm zamba zamba2""",
    "No attention at all: convolutions, pooling or a Fourier transform": """
        bit convnext convnextv2 efficientnet fnet focalnet hgnet_v2 mobilenet_v1 mobilenet_v2
        poolformer pp_lcnet regnet resnet textnet""",
    "Tokens are merged, split or reduced from layer to layer, or attention runs in windows": """
        blt canine cvt donut-swin funnel hiera levit mobilevit mobilevitv2 perceiver pvt pvt_v2
        segformer swiftformer swin swinv2""",
    "Attention is sparse, compressed or approximated, without one weight for two tokens": """
        bigbird_pegasus deepseek_v4 led longformer longt5 mra nystromformer pegasus_x reformer
        yoso""",
    "Several residual streams, or several attentions in a layer": """
        diffllama gemma3n_text hrm_text hy_v4 inkling2_text lilt longcat_flash mobilebert
        prophetnet""",
    "The stream or attention's output is scaled, by a parameter or by a number of the layer": """
        beam beit data2vec-vision doge esmc zaya""",
    "Information enters layers besides the inputs": "gemma4 gemma4_text neomme",
    "Attention is computed by the model itself, in a form that is not recorded": """
        ibert mvp trocr xglm""",
    "The residual stream has another order of axes": "fsmt squeezebert xlnet",
    "Attention's output comes in a tuple, or gets a bias on its way": "gpt_neox_japanese jetmoe",
    "An activation without a slope through the origin, or a gate that is no module": """
        apertus esm minimax_m3_vl_text""",
    "Inputs or a config of another form": """
        cpmant encoder-decoder musicgen musicgen_melody siglip2 t5gemma t5gemma2
        voxtral_realtime""",
}
CAUSES = {name: cause for cause, names in _LISTED.items() for name in names.split()}
