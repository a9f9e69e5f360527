/* check_resolve.c - the helpers below the configuration readers: keys that are
 * numbers in any spelling, fall-back from the text part to the root, messages
 * that name key and range; properties of the rope tables over many shapes; and
 * the paths of modules in every class.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/resolve.h"

#include <math.h>
#include <string.h>

#include "core/str.h"
#include "model/family.h"
#include "model/peft.h"
#include "tests/check_main.h"

static bise_error err;

static bise_json *parse(const char *text)
{
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    return v;
}

/* Spellings that released files use, and some that they must not. */
static const struct { const char *json; bool ok; int64_t want; } numbers[] = {
    { "{\"k\":4096}", true, 4096 }, { "{\"k\":4096.0}", true, 4096 },
    { "{\"k\":\"4096\"}", true, 4096 }, { "{\"k\":1e3}", true, 1000 },
    { "{\"k\":null}", true, 7 }, { "{}", true, 7 },
    { "{\"k\":0}", false, 0 }, { "{\"k\":5001}", false, 0 },
    { "{\"k\":4.5}", false, 0 }, { "{\"k\":\"x\"}", false, 0 },
    { "{\"k\":true}", false, 0 }, { "{\"k\":[4096]}", false, 0 },
    { "{\"k\":{}}", false, 0 }, { "{\"k\":-1}", false, 0 },
};

START_TEST(integers_in_any_spelling)
{
    bise_json *v = parse(numbers[_i].json);
    const bise_keys k = { v, NULL };
    int64_t out = 7;
    bise_error_init(&err);
    const bise_status s = bise_key_int(&k, "k", false, 1, 5000, &out, &err);
    ck_assert_msg((s == BISE_OK) == numbers[_i].ok, "%s", numbers[_i].json);
    if (numbers[_i].ok) {
        ck_assert_int_eq(out, numbers[_i].want);
    } else {
        /* The message tells key and range, and the output is untouched. */
        ck_assert_ptr_nonnull(strstr(err.text, "'k'"));
        ck_assert_ptr_nonnull(strstr(err.text, "1 to 5000"));
        ck_assert_int_eq(out, 7);
    }
    bise_json_free(v);
}
END_TEST

/* The text part wins; null and absent there fall back to the root. */
START_TEST(text_part_before_root)
{
    bise_json *text = parse("{\"a\":1,\"b\":null}");
    bise_json *root = parse("{\"a\":2,\"b\":3,\"c\":4}");
    const bise_keys k = { text, root };
    static const struct { const char *key; double want; } t[] = {
        { "a", 1 }, { "b", 3 }, { "c", 4 } };
    for (size_t i = 0; i < 3; i++)
        ck_assert(bise_json_number(bise_key_get(&k, t[i].key), 0) ==
                  t[i].want);
    ck_assert_ptr_null(bise_key_get(&k, "d"));
    double d = 5;
    ck_ok(bise_key_num(&k, "d", false, 0, &d, &err));
    ck_assert(d == 5);
    ck_fails(bise_key_num(&k, "d", true, 0, &d, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.text, "key 'd' is missing");
    int32_t n = 0;
    ck_fails(bise_key_dim(&k, "d", true, &n, &err), BISE_EFORMAT);
    bise_json_free(text);
    bise_json_free(root);
}
END_TEST

/* Real numbers: finite and not below the bound. */
START_TEST(numbers_have_a_bound)
{
    static const struct { const char *json; bool ok; } t[] = {
        { "{\"k\":0.5}", true }, { "{\"k\":\"1e-05\"}", true },
        { "{\"k\":0}", true }, { "{\"k\":-0.1}", false },
        { "{\"k\":\"inf\"}", false }, { "{\"k\":\"nan\"}", false },
        { "{\"k\":[]}", false } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bise_json *v = parse(t[i].json);
        const bise_keys k = { v, NULL };
        double d = 9;
        bise_error_init(&err);
        ck_assert_msg((bise_key_num(&k, "k", false, 0, &d, &err) == BISE_OK) ==
                          t[i].ok, "%s", t[i].json);
        bise_json_free(v);
    }
}
END_TEST

/* Token ids may be lists; anything else means "not given". */
START_TEST(tokens_may_be_lists)
{
    static const struct { const char *json; int32_t want; } t[] = {
        { "{\"k\":2}", 2 }, { "{\"k\":[2,7]}", 2 }, { "{\"k\":[]}", -1 },
        { "{\"k\":null}", -1 }, { "{\"k\":-5}", -1 }, { "{\"k\":1e12}", -1 },
        { "{\"k\":\"</s>\"}", -1 }, { "{}", -1 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bise_json *v = parse(t[i].json);
        const bise_keys k = { v, NULL };
        ck_assert_msg(bise_key_token(&k, "k") == t[i].want, "%s", t[i].json);
        bise_json_free(v);
    }
}
END_TEST

/* Schemes of quantized checkpoints: read, or refused by name. */
START_TEST(quantization_is_read_or_named)
{
    static const struct { const char *json, *method, *word; } t[] = {
        { "null", "", NULL },
        { "{\"quant_method\":\"fp8\"}", "fp8", NULL },
        { "{\"quant_method\":\"compressed-tensors\",\"format\":"
          "\"float-quantized\"}", "compressed-tensors", NULL },
        { "{\"quant_method\":\"compressed-tensors\",\"format\":"
          "\"pack-quantized\"}", NULL, "pack-quantized" },
        { "{\"quant_method\":\"bitsandbytes\"}", NULL, "bitsandbytes" },
        { "{\"quant_method\":\"awq\"}", NULL, "awq" },
        { "{\"quant_method\":7}", NULL, "quant_method" } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bise_json *v = parse(t[i].json);
        bise_config c;
        bise_config_defaults(&c);
        bise_error_init(&err);
        const bise_status s = bise_config_quant(&c, v, &err);
        ck_assert_msg((s == BISE_OK) == (t[i].method != NULL), "row %zu", i);
        if (t[i].method)
            ck_assert_str_eq(c.quant_method, t[i].method);
        else
            ck_assert_ptr_nonnull(strstr(err.text, t[i].word));
        bise_json_free(v);
    }
}
END_TEST

/* Frequencies fall, lie between the stretched and the plain wave, and the
 * factor is at least 1 for every sensible key. */
START_TEST(yarn_stays_between_its_ends)
{
    static const double thetas[] = { 1e4, 1e6, 1e8, 1e9 };
    static const double factors[] = { 1, 2, 16, 48, 128 };
    static const int dims[] = { 2, 24, 64, 128 };
    double freq[64], factor;
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 5; b++)
            for (size_t d = 0; d < 4; d++) {
                const bise_rope r = {
                    .theta = thetas[a], .yarn = true, .factor = factors[b],
                    .beta_fast = 32, .beta_slow = 1, .mscale = NAN,
                    .mscale_all_dim = NAN, .attention_factor = NAN,
                    .original_max = 4096, .truncate = d % 2 };
                const int n = dims[d];
                bise_rope_freqs(&r, n, freq, &factor);
                ck_assert(factor >= 1);
                for (int i = 0; i < n / 2; i++) {
                    const double plain = pow(thetas[a], -2.0 * i / n);
                    ck_assert(freq[i] <= plain * (1 + 1e-12));
                    ck_assert(freq[i] >= plain / factors[b] * (1 - 1e-12));
                    ck_assert(i == 0 || freq[i] < freq[i - 1]);
                }
            }
}
END_TEST

/* Constant inside a block of the original length, rising from one to the
 * next. */
START_TEST(query_scale_rises_in_steps)
{
    const bise_rope r = { .qscale_beta = 0.1, .original_max = 64 };
    for (int64_t p = 1; p < 640; p++) {
        const double now = bise_rope_qscale(&r, p);
        const double before = bise_rope_qscale(&r, p - 1);
        ck_assert(p % 64 ? now == before : now > before);
    }
}
END_TEST

/* Path to role and back for every module kind, in both classes. */
START_TEST(paths_go_both_ways)
{
    for (int k = 0; k < BISE_ROLE_COUNT; k++)
        for (int wrapper = 0; wrapper < 2; wrapper++) {
            const bool expert = k == BISE_ROLE_EXP_GATE ||
                                k == BISE_ROLE_EXP_UP ||
                                k == BISE_ROLE_EXP_DOWN;
            const bise_role r = { (bise_role_kind)k,
                                  k == BISE_ROLE_HEAD ? -1 : 11,
                                  expert ? 5 : -1 };
            char path[256], full[320];
            if (!bise_role_module(r.kind))
                continue;
            ck_assert(bise_peft_path(path, r, BISE_FAMILY_MIXTRAL, wrapper));
            bool seen = false;
            ck_assert(bise_role_equal(bise_peft_role(path, &seen), r));
            /* The head stands outside the language model in the wrapper. */
            ck_assert(seen == (wrapper && k != BISE_ROLE_HEAD));
            snprintf(full, sizeof full, "base_model.model.%s", path);
            ck_assert(bise_role_equal(bise_peft_role(full, &seen), r));
        }
}
END_TEST

/* Fused experts are parameters: there is no module to adapt. */
START_TEST(fused_experts_have_no_path)
{
    char path[256];
    const bise_role r = { BISE_ROLE_EXP_GATE_UP, 0, -1 };
    ck_assert(!bise_peft_path(path, r, BISE_FAMILY_MISTRAL4, false));
}
END_TEST

/* Names that are long, empty or close to real ones. */
START_TEST(odd_paths_are_no_roles)
{
    static const char *const bad[] = {
        "", ".", "base_model.model.", "language_model.", "lm_head.x",
        "model.layers.1.self_attn.q_proj.q_proj",
        "model.layers.99999999.self_attn.q_proj",
        "vision.language_model.model.layers.1.self_attn.q_proj" };
    bool wrapper = false;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(bise_peft_role(bad[i], &wrapper).kind ==
                          BISE_ROLE_COUNT, "'%s'", bad[i]);
    ck_assert(!wrapper);
    char longest[1024];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    memcpy(longest, "language_model.", strlen("language_model."));
    ck_assert_int_eq(bise_peft_role(longest, &wrapper).kind, BISE_ROLE_COUNT);
}
END_TEST

/* Facts of families.def that other folders rely on. */
START_TEST(families_are_consistent)
{
    for (int f = 0; f <= BISE_FAMILY_LLAMA; f++) {
        const bise_family_info *x = bise_family_get((bise_family)f);
        ck_assert_int_eq(bise_family_by_name(x->model_type), f);
        ck_assert_int_eq(bise_family_by_name(x->architecture), f);
        ck_assert(bise_ends_with(x->architecture, "ForCausalLM"));
        ck_assert(x->theta >= 1e4);
        ck_assert(!x->mla || (x->moe && !x->half));
    }
}
END_TEST

/* Helpers, rope, paths. */
static Suite *suite(void)
{
    Suite *s = suite_create("resolve");
    TCase *t = tcase_create("resolve");
    tcase_add_loop_test(t, integers_in_any_spelling, 0,
                        sizeof numbers / sizeof *numbers);
    tcase_add_test(t, text_part_before_root);
    tcase_add_test(t, numbers_have_a_bound);
    tcase_add_test(t, tokens_may_be_lists);
    tcase_add_test(t, quantization_is_read_or_named);
    tcase_add_test(t, yarn_stays_between_its_ends);
    tcase_add_test(t, query_scale_rises_in_steps);
    tcase_add_test(t, paths_go_both_ways);
    tcase_add_test(t, fused_experts_have_no_path);
    tcase_add_test(t, odd_paths_are_no_roles);
    tcase_add_test(t, families_are_consistent);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
