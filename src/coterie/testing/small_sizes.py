"""The sizes of tiny models: every size among the fields of a config, by a small one."""

VOCABULARY = 128
"""Number of token ids of every tiny model."""

# Sizes that divide each other: heads divide widths, groups divide heads.
_WIDTHS = {
    32: "hidden_size d_model n_embd emb_dim embedding_dim embedding_size word_embed_proj_dim"
    " attention_hidden_size lru_width linear_head_dim_total input_embedding_size"
    " output_embedding_size pronunciation_embed_dim shape_embed_dim",
    64: "intermediate_size n_inner ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size dim_ff"
    " dff d_inner feed_forward_size dense_intermediate_size intermediate_size_mlp"
    " expert_ffn_hidden_size",
    16: "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size"
    " shared_experts_intermediate_size moe_shared_expert_intermediate_size kv_lora_rank"
    " q_lora_rank o_lora_rank mamba_d_state state_size ssm_state_size index_head_dim"
    " chunk_size mamba_chunk_size qk_head_dim sliding_window sliding_window_size window_size"
    " attention_window_size local_attention",
    8: "head_dim qk_rope_head_dim v_head_dim qk_nope_head_dim linear_key_head_dim d_head"
    " linear_value_head_dim swa_head_dim linear_head_dim attention_head_size dim_head"
    " global_head_dim kv_channels mamba_d_head mamba_headdim mamba_head_dim time_step_rank"
    " mamba_dt_rank gated_norm_rank laurel_rank hidden_size_per_layer_input router_hidden_size"
    " loop_gate_rank hc_lowrank adapter_rank index_topk rotary_dim",
    4: "num_attention_heads n_head n_heads attention_heads decoder_attention_heads num_heads"
    " encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads"
    " num_experts n_routed_experts num_local_experts moe_num_experts index_n_heads"
    " swa_num_attention_heads linear_num_value_heads linear_num_heads zero_expert_num",
    2: "num_key_value_heads num_experts_per_tok num_experts_per_token moe_k moe_topk top_k"
    " linear_num_key_heads swa_num_key_value_heads num_global_key_value_heads n_group"
    " num_query_groups num_kv_heads n_mamba_heads n_groups mamba_n_groups o_groups",
    1: "topk_group num_expert_group",
    256: "max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions"
    " original_max_position_embeddings position_bias_max_distance mem_len",
    VOCABULARY: "vocab_size vocab_size_per_layer_input unpadded_vocab_size pronunciation_vocab_size"
    " shape_vocab_size ngram_vocab_size_base encoder_hash_byte_group_vocab",
}

SMALL = {name: size for size, names in _WIDTHS.items() for name in names.split()}

# Set even where a config leaves them empty.
ONCE_SMALL = frozenset(("head_dim", "num_key_value_heads"))
