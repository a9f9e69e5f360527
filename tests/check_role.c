/* check_role.c - the table of tensor names: every role to its name in each
 * layout and back, nothing else recognized; the row order of q and k.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/role.h"

#include <string.h>

#include "model/checkpoint.h"
#include "tests/check_main.h"

static const struct {
    bise_role role;
    bise_family family;
    const char *hf, *native, *gguf;
} names[] = {
    { { BISE_ROLE_EMBED, -1, -1 }, BISE_FAMILY_MISTRAL,
      "model.embed_tokens.weight", "tok_embeddings.weight",
      "token_embd.weight" },
    { { BISE_ROLE_HEAD, -1, -1 }, BISE_FAMILY_MISTRAL, "lm_head.weight",
      "output.weight", "output.weight" },
    { { BISE_ROLE_Q, 3, -1 }, BISE_FAMILY_MINISTRAL3,
      "model.layers.3.self_attn.q_proj.weight",
      "layers.3.attention.wq.weight", "blk.3.attn_q.weight" },
    { { BISE_ROLE_DOWN, 33, -1 }, BISE_FAMILY_MINISTRAL3,
      "model.layers.33.mlp.down_proj.weight",
      "layers.33.feed_forward.w2.weight", "blk.33.ffn_down.weight" },
    { { BISE_ROLE_UP, 0, -1 }, BISE_FAMILY_MISTRAL,
      "model.layers.0.mlp.up_proj.weight", "layers.0.feed_forward.w3.weight",
      "blk.0.ffn_up.weight" },
    { { BISE_ROLE_ROUTER, 1, -1 }, BISE_FAMILY_MIXTRAL,
      "model.layers.1.block_sparse_moe.gate.weight",
      "layers.1.feed_forward.gate.weight", "blk.1.ffn_gate_inp.weight" },
    { { BISE_ROLE_ROUTER, 1, -1 }, BISE_FAMILY_MISTRAL4,
      "model.layers.1.mlp.gate.weight", "layers.1.gate.weight",
      "blk.1.ffn_gate_inp.weight" },
    { { BISE_ROLE_EXP_DOWN, 1, 7 }, BISE_FAMILY_MIXTRAL,
      "model.layers.1.block_sparse_moe.experts.7.w2.weight",
      "layers.1.feed_forward.experts.7.w2.weight", NULL },
    { { BISE_ROLE_EXP_UP, 1, 120 }, BISE_FAMILY_MISTRAL4,
      "model.layers.1.mlp.experts.120.up_proj.weight",
      "layers.1.experts.120.w3.weight", NULL },
    { { BISE_ROLE_EXP_GATE_UP, 2, -1 }, BISE_FAMILY_MISTRAL4,
      "model.layers.2.mlp.experts.gate_up_proj", NULL,
      "blk.2.ffn_gate_up_exps.weight" },
    { { BISE_ROLE_EXP_DOWN, 2, -1 }, BISE_FAMILY_MISTRAL4,
      "model.layers.2.mlp.experts.down_proj", NULL,
      "blk.2.ffn_down_exps.weight" },
    { { BISE_ROLE_EXP_GATE, 2, -1 }, BISE_FAMILY_MIXTRAL, NULL, NULL,
      "blk.2.ffn_gate_exps.weight" },
    { { BISE_ROLE_KV_A, 0, -1 }, BISE_FAMILY_MISTRAL4,
      "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
      "layers.0.attention.wkv_a_with_mqa.weight",
      "blk.0.attn_kv_a_mqa.weight" },
    { { BISE_ROLE_K_B, 0, -1 }, BISE_FAMILY_MISTRAL4, NULL, NULL,
      "blk.0.attn_k_b.weight" },
    { { BISE_ROLE_SH_UP, 5, -1 }, BISE_FAMILY_MISTRAL4,
      "model.layers.5.mlp.shared_experts.up_proj.weight",
      "layers.5.shared_experts.w3.weight", "blk.5.ffn_up_shexp.weight" },
};

/* Role to name to role in each layout that has the name. */
START_TEST(names_go_both_ways)
{
    const char *const want[3] = { names[_i].hf, names[_i].native,
                                  names[_i].gguf };
    for (int layout = 0; layout < 3; layout++) {
        char out[192];
        const bool any = bise_role_name_in(out, names[_i].role,
                                           (bise_names)layout,
                                           names[_i].family);
        ck_assert_msg(any == (want[layout] != NULL), "layout %d: %s", layout,
                      any ? out : "no name");
        if (!any)
            continue;
        ck_assert_str_eq(out, want[layout]);
        const bise_role back = bise_role_of(out, (bise_names)layout);
        ck_assert(bise_role_equal(back, names[_i].role));
    }
}
END_TEST

/* Leading zeros, signs, overflow and other layouts' names. */
START_TEST(other_names_are_no_roles)
{
    static const char *const bad[] = {
        "", "model", "model.layers.0", "model.layers.x.input_layernorm.weight",
        "model.layers.00.input_layernorm.weight",
        "model.layers.01.input_layernorm.weight",
        "model.layers.12345678.input_layernorm.weight",
        "model.layers.-1.input_layernorm.weight",
        "model.layers.0.input_layernorm.weight2", "lm_head.weigh",
        "model.layers.0.self_attn.q_proj.bias", "tok_embeddings.weight",
        "model.layers.4294967296.mlp.up_proj.weight" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(bise_role_of(bad[i], BISE_NAMES_HF).kind ==
                          BISE_ROLE_COUNT, "'%s'", bad[i]);
}
END_TEST

/* A dense model can be written in all three. */
START_TEST(every_implied_role_has_a_name_in_each_layout)
{
    const bise_config c = { .family = BISE_FAMILY_MINISTRAL3, .C = 8, .F = 16,
                            .L = 2, .H = 2, .K = 1, .D = 4, .V = 10 };
    bise_role r[64];
    const size_t n = bise_config_roles(&c, r, 64);
    ck_assert_uint_eq(n, 3 + 2 * 9);
    for (size_t i = 0; i < n; i++)
        for (int layout = 0; layout < 3; layout++) {
            char out[192];
            ck_assert(bise_role_name(out, r[i], (bise_names)layout));
        }
    ck_assert_uint_eq(bise_config_roles(&c, r, 0), n);
}
END_TEST

START_TEST(modules_have_short_names)
{
    ck_assert_str_eq(bise_role_module(BISE_ROLE_GATE), "gate_proj");
    ck_assert_ptr_null(bise_role_module(BISE_ROLE_NORM));
    ck_assert_ptr_null(bise_role_module(BISE_ROLE_EMBED));
    ck_assert_int_eq(bise_role_by_module("o_proj"), BISE_ROLE_O);
    ck_assert_int_eq(bise_role_by_module("proj"), BISE_ROLE_COUNT);
}
END_TEST

/* Both directions of the permutation, per head. */
START_TEST(row_orders_are_inverse)
{
    /* mistral3.md 2.6: HF row b D/2 + i = native row 2 i + b, per head. */
    const int D = 6;
    for (uint64_t h = 0; h < 3; h++)
        for (uint64_t i = 0; i < 3; i++)
            for (uint64_t b = 0; b < 2; b++) {
                const uint64_t half = h * 6 + b * 3 + i;
                const uint64_t inter = h * 6 + 2 * i + b;
                ck_assert_uint_eq(bise_rows_source(BISE_ROWS_INTERLEAVED,
                                                   BISE_ROWS_HALF, half, D),
                                  inter);
                ck_assert_uint_eq(bise_rows_source(BISE_ROWS_HALF,
                                                   BISE_ROWS_INTERLEAVED,
                                                   inter, D), half);
                ck_assert_uint_eq(bise_rows_source(BISE_ROWS_PLAIN,
                                                   BISE_ROWS_HALF, half, D),
                                  half);
            }
}
END_TEST

/* Latent attention, shared experts and a dense first layer. */
START_TEST(shapes_follow_the_config)
{
    const bise_config c = { .family = BISE_FAMILY_MISTRAL4, .C = 8, .F = 16,
                            .L = 2, .H = 2, .K = 2, .D = 5, .V = 10, .E = 3,
                            .top_k = 1, .F_expert = 6, .shared_experts = 2,
                            .dense_layers = 1, .q_lora = 4, .kv_lora = 3,
                            .qk_nope = 3, .qk_rope = 2, .v_dim = 7 };
    static const struct { bise_role r; int n; uint64_t d[3]; } t[] = {
        { { BISE_ROLE_GATE, 0, -1 }, 2, { 16, 8 } },
        { { BISE_ROLE_GATE, 1, -1 }, 0, { 0 } },
        { { BISE_ROLE_ROUTER, 0, -1 }, 0, { 0 } },
        { { BISE_ROLE_ROUTER, 1, -1 }, 2, { 3, 8 } },
        { { BISE_ROLE_EXP_GATE, 1, -1 }, 3, { 3, 6, 8 } },
        { { BISE_ROLE_EXP_GATE, 1, 2 }, 2, { 6, 8 } },
        { { BISE_ROLE_EXP_GATE, 1, 3 }, 0, { 0 } },
        { { BISE_ROLE_EXP_GATE_UP, 1, -1 }, 3, { 3, 12, 8 } },
        { { BISE_ROLE_SH_DOWN, 1, -1 }, 2, { 8, 12 } },
        { { BISE_ROLE_O, 1, -1 }, 2, { 8, 14 } },
        { { BISE_ROLE_Q, 1, -1 }, 0, { 0 } },
        { { BISE_ROLE_Q_B, 1, -1 }, 2, { 10, 4 } },
        { { BISE_ROLE_KV_A, 1, -1 }, 2, { 5, 8 } },
        { { BISE_ROLE_KV_B, 1, -1 }, 2, { 20, 3 } },
        { { BISE_ROLE_K_B, 1, -1 }, 3, { 2, 3, 3 } },
        { { BISE_ROLE_V_B, 1, -1 }, 3, { 2, 7, 3 } },
        { { BISE_ROLE_KV_B, 2, -1 }, 0, { 0 } },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint64_t d[3] = { 0 };
        ck_assert_msg(bise_role_shape(&c, t[i].r, d) == t[i].n, "row %zu", i);
        ck_assert_msg(memcmp(d, t[i].d, (size_t)t[i].n * sizeof *d) == 0,
                      "row %zu", i);
    }
}
END_TEST

/* One row, one name. */
static Suite *suite(void)
{
    Suite *s = suite_create("role");
    TCase *t = tcase_create("role");
    tcase_add_loop_test(t, names_go_both_ways, 0,
                        sizeof names / sizeof *names);
    tcase_add_test(t, other_names_are_no_roles);
    tcase_add_test(t, every_implied_role_has_a_name_in_each_layout);
    tcase_add_test(t, modules_have_short_names);
    tcase_add_test(t, row_orders_are_inverse);
    tcase_add_test(t, shapes_follow_the_config);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
