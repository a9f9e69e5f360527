/* check_mixture.c - tests of quantize/mixture.c: the worked examples and the
 * selection check of gguf.md 6 and 12, shape fallbacks, and every mixture's
 * first and default types.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "quantize/mixture.h"
#include "tests/check_main.h"

/* Type of a name for a mixture, all counters at zero. */
static bise_dtype first_type(const char *mixture, const char *name,
                             const bise_mixture_model *m)
{
    bise_mixture_state st = { 0 };
    const int dims = strstr(name, "_exps") ? 3 : 2;
    return bise_mixture_type(bise_mixture_find(mixture), m, &st, name, dims,
                             4096);
}

static const bise_mixture_model gqa4 = { .layers = 32, .heads = 32,
                                         .kv_heads = 8, .n_v = 32,
                                         .has_output = true };
static const bise_mixture_model gqa2 = { .layers = 32, .heads = 32,
                                         .kv_heads = 16, .n_v = 32,
                                         .has_output = true };

START_TEST(q4_k_m_gives_more_bits_to_the_blocks_of_the_example)
{
    /* gguf.md 6.3: 32 blocks, GQA 4 */
    static const int big[] = { 0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27,
                               28, 29, 30, 31 };
    const bise_mixture *m = bise_mixture_find("q4_k_m");
    bise_mixture_state st = { 0 };
    ck_assert_ptr_nonnull(m);
    ck_assert_int_eq(m->file_type, 15);
    ck_assert_int_eq(bise_mixture_type(m, &gqa4, &st, "output.weight", 2, 4096),
                     BISE_DTYPE_Q6_K);
    ck_assert_int_eq(bise_mixture_type(m, &gqa4, &st, "token_embd.weight", 2,
                                       4096), BISE_DTYPE_Q4_K);
    for (int i = 0, k = 0; i < 32; i++) {
        char name[64];
        const bool is_big = k < 16 && big[k] == i;
        const bise_dtype want = is_big ? BISE_DTYPE_Q6_K : BISE_DTYPE_Q4_K;
        k += is_big;
        snprintf(name, sizeof name, "blk.%d.attn_q.weight", i);
        ck_assert_int_eq(bise_mixture_type(m, &gqa4, &st, name, 2, 4096),
                         BISE_DTYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        ck_assert_int_eq(bise_mixture_type(m, &gqa4, &st, name, 2, 4096),
                         want);
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        ck_assert_int_eq(bise_mixture_type(m, &gqa4, &st, name, 2, 14336),
                         want);
    }
}
END_TEST

START_TEST(small_columns_fall_back_as_in_the_selection_check)
{
    /* gguf.md 12: 5 blocks, GQA 2, 64 columns, Q4_K_M */
    const bise_mixture_model m = { .layers = 5, .heads = 4, .kv_heads = 2,
                                   .n_v = 5, .has_output = true };
    const bise_mixture *q = bise_mixture_find("Q4_K_M");
    bise_mixture_state st = { 0 };
    ck_assert_int_eq(bise_mixture_fallback(
        bise_mixture_type(q, &m, &st, "output.weight", 2, 64), 64),
        BISE_DTYPE_Q8_0);
    ck_assert_int_eq(bise_mixture_fallback(
        bise_mixture_type(q, &m, &st, "token_embd.weight", 2, 64), 64),
        BISE_DTYPE_Q5_0);
    for (int i = 0; i < 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        ck_assert_int_eq(bise_mixture_fallback(
            bise_mixture_type(q, &m, &st, name, 2, 64), 64),
            i == 2 || i == 4 ? BISE_DTYPE_Q8_0 : BISE_DTYPE_Q5_0);
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        ck_assert_int_eq(bise_mixture_fallback(
            bise_mixture_type(q, &m, &st, name, 2, 172), 172),
            BISE_DTYPE_F16);
    }
}
END_TEST

START_TEST(falls_back_by_type)
{
    static const struct { bise_dtype from, to; } rows[] = {
        { BISE_DTYPE_Q2_K, BISE_DTYPE_Q4_0 },
        { BISE_DTYPE_Q3_K, BISE_DTYPE_Q4_0 },
        { BISE_DTYPE_Q4_K, BISE_DTYPE_Q5_0 },
        { BISE_DTYPE_Q5_K, BISE_DTYPE_Q5_1 },
        { BISE_DTYPE_Q6_K, BISE_DTYPE_Q8_0 },
        { BISE_DTYPE_IQ4_XS, BISE_DTYPE_IQ4_NL },
        { BISE_DTYPE_TQ1_0, BISE_DTYPE_Q4_0 },
        { BISE_DTYPE_Q8_0, BISE_DTYPE_Q8_0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_int_eq(bise_mixture_fallback(rows[i].from, 96), rows[i].to);
        ck_assert_int_eq(bise_mixture_fallback(rows[i].from, 512),
                         rows[i].from);
    }
    ck_assert_int_eq(bise_mixture_fallback(BISE_DTYPE_Q4_K, 100),
                     BISE_DTYPE_F16);
    ck_assert_int_eq(bise_mixture_fallback(BISE_DTYPE_Q8_0, 100),
                     BISE_DTYPE_NONE);
}
END_TEST

/* The table of gguf.md 6.3, first tensor of each kind. */
START_TEST(first_types_follow_the_table)
{
    static const struct {
        const char *mixture, *name;
        bise_dtype gqa4, gqa2;
    } rows[] = {
        { "Q2_K", "blk.0.attn_v.weight", BISE_DTYPE_Q4_K, BISE_DTYPE_Q3_K },
        { "Q2_K", "blk.0.attn_output.weight", BISE_DTYPE_Q3_K,
          BISE_DTYPE_Q3_K },
        { "Q2_K", "blk.0.ffn_down.weight", BISE_DTYPE_Q3_K, BISE_DTYPE_Q3_K },
        { "Q2_K_S", "blk.0.attn_v.weight", BISE_DTYPE_Q4_K, BISE_DTYPE_Q2_K },
        { "Q2_K_S", "blk.0.ffn_down.weight", BISE_DTYPE_Q4_K,
          BISE_DTYPE_Q4_K },
        { "Q3_K_S", "blk.0.attn_v.weight", BISE_DTYPE_Q3_K, BISE_DTYPE_Q3_K },
        { "Q3_K_M", "blk.0.attn_v.weight", BISE_DTYPE_Q5_K, BISE_DTYPE_Q5_K },
        { "Q3_K_M", "blk.0.attn_output.weight", BISE_DTYPE_Q4_K,
          BISE_DTYPE_Q4_K },
        { "Q3_K_L", "blk.0.ffn_down.weight", BISE_DTYPE_Q5_K,
          BISE_DTYPE_Q5_K },
        { "Q4_K_S", "blk.0.attn_v.weight", BISE_DTYPE_Q5_K, BISE_DTYPE_Q5_K },
        { "Q5_K_S", "blk.0.attn_v.weight", BISE_DTYPE_Q5_K, BISE_DTYPE_Q5_K },
        { "Q6_K", "blk.0.ffn_down.weight", BISE_DTYPE_Q6_K, BISE_DTYPE_Q6_K },
        { "IQ4_XS", "blk.0.attn_v.weight", BISE_DTYPE_Q5_K,
          BISE_DTYPE_IQ4_XS },
        { "IQ4_XS", "blk.0.ffn_down.weight", BISE_DTYPE_Q5_K,
          BISE_DTYPE_Q5_K },
        { "IQ4_NL", "blk.0.ffn_up.weight", BISE_DTYPE_IQ4_NL,
          BISE_DTYPE_IQ4_NL },
        { "Q8_0", "output.weight", BISE_DTYPE_Q8_0, BISE_DTYPE_Q8_0 },
        { "TQ1_0", "token_embd.weight", BISE_DTYPE_Q4_K, BISE_DTYPE_Q4_K },
        { "Q4_0", "blk.0.ffn_down.weight", BISE_DTYPE_Q4_0,
          BISE_DTYPE_Q4_0 },
        { "BF16", "output.weight", BISE_DTYPE_BF16, BISE_DTYPE_BF16 },
        { "MXFP4_MOE", "blk.0.ffn_up_exps.weight", BISE_DTYPE_MXFP4,
          BISE_DTYPE_MXFP4 },
        { "MXFP4_MOE", "blk.0.ffn_up.weight", BISE_DTYPE_Q8_0,
          BISE_DTYPE_Q8_0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(first_type(rows[i].mixture, rows[i].name, &gqa4) ==
                      rows[i].gqa4, "%s %s", rows[i].mixture, rows[i].name);
        ck_assert_msg(first_type(rows[i].mixture, rows[i].name, &gqa2) ==
                      rows[i].gqa2, "%s %s", rows[i].mixture, rows[i].name);
    }
}
END_TEST

START_TEST(an_imatrix_changes_the_rules_that_ask_for_it)
{
    bise_mixture_model m = gqa4;
    m.has_imatrix = true;
    ck_assert_int_eq(first_type("Q4_0", "blk.0.ffn_down.weight", &m),
                     BISE_DTYPE_Q4_1);
    ck_assert_int_eq(first_type("Q5_0", "blk.0.ffn_down.weight", &m),
                     BISE_DTYPE_Q5_1);
    ck_assert_int_eq(first_type("IQ4_XS", "blk.0.ffn_down.weight", &m),
                     BISE_DTYPE_IQ4_XS);
}
END_TEST

START_TEST(a_tied_embedding_is_treated_as_output)
{
    bise_mixture_model m = gqa4;
    m.has_output = false;
    ck_assert_int_eq(first_type("Q4_K_M", "token_embd.weight", &m),
                     BISE_DTYPE_Q6_K);
}
END_TEST

START_TEST(eight_experts_and_the_70b_class_have_their_own_rules)
{
    bise_mixture_model m = gqa4;
    m.experts = 8;
    ck_assert_int_eq(first_type("Q4_K_M", "blk.5.attn_v.weight", &m),
                     BISE_DTYPE_Q8_0);
    ck_assert_int_eq(first_type("Q4_K_M", "blk.5.attn_k.weight", &m),
                     BISE_DTYPE_Q8_0);
    ck_assert_int_eq(first_type("Q4_K_M", "blk.5.attn_output.weight", &m),
                     BISE_DTYPE_Q5_K);
    /* the block number of the name counts, not the order: 5 is no "more" */
    ck_assert_int_eq(first_type("Q4_K_M", "blk.5.ffn_down_exps.weight", &m),
                     BISE_DTYPE_Q4_K);
    ck_assert_int_eq(first_type("Q4_K_M", "blk.6.ffn_down_exps.weight", &m),
                     BISE_DTYPE_Q6_K);
    m = gqa4;
    m.layers = 80;
    m.n_v = 80;
    m.llama = true;
    ck_assert_int_eq(first_type("Q3_K_S", "blk.0.attn_v.weight", &m),
                     BISE_DTYPE_Q5_K);
    m.llama = false;
    ck_assert_int_eq(first_type("Q3_K_S", "blk.0.attn_v.weight", &m),
                     BISE_DTYPE_Q3_K);
}
END_TEST

START_TEST(norms_routers_and_vectors_are_left_alone)
{
    ck_assert(!bise_mixture_quantizes("blk.0.attn_norm.weight", 1));
    ck_assert(!bise_mixture_quantizes("blk.0.attn_norm.weight", 2));
    ck_assert(!bise_mixture_quantizes("blk.0.ffn_gate_inp.weight", 2));
    ck_assert(!bise_mixture_quantizes("blk.0.attn_q.bias", 2));
    ck_assert(!bise_mixture_quantizes("rope_freqs.weight", 1));
    ck_assert(bise_mixture_quantizes("blk.0.ffn_gate_exps.weight", 3));
    ck_assert(bise_mixture_quantizes("output.weight", 2));
}
END_TEST

START_TEST(names_are_found_in_any_case_and_by_alias)
{
    ck_assert_str_eq(bise_mixture_find("q4_k")->name, "Q4_K_M");
    ck_assert_str_eq(bise_mixture_find("Q5_K")->name, "Q5_K_M");
    ck_assert_str_eq(bise_mixture_find("iq4_xs")->name, "IQ4_XS");
    ck_assert_ptr_null(bise_mixture_find("Q4_K_XL"));
    for (size_t i = 0; bise_mixture_at(i); i++)
        ck_assert_ptr_eq(bise_mixture_find(bise_mixture_at(i)->name),
                         bise_mixture_at(i));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mixture");
    TCase *t = tcase_create("types");
    tcase_add_test(t, q4_k_m_gives_more_bits_to_the_blocks_of_the_example);
    tcase_add_test(t, small_columns_fall_back_as_in_the_selection_check);
    tcase_add_test(t, falls_back_by_type);
    tcase_add_test(t, first_types_follow_the_table);
    tcase_add_test(t, an_imatrix_changes_the_rules_that_ask_for_it);
    tcase_add_test(t, a_tied_embedding_is_treated_as_output);
    tcase_add_test(t, eight_experts_and_the_70b_class_have_their_own_rules);
    tcase_add_test(t, norms_routers_and_vectors_are_left_alone);
    tcase_add_test(t, names_are_found_in_any_case_and_by_alias);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
