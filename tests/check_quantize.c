/* check_quantize.c - tests of quantize/quantize.c: order of tensors and keys,
 * priority of the options that choose types, importance attached to tensors
 * and experts, refusals; and that the bytes in the file are the encoder's.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "kernels/codec.h"
#include "pipeline/run.h"
#include "quantize/quantize.h"
#include "tests/check_main.h"

#define COLS 256
#define LAYERS 5

static bise_error err;
static char dir[] = "/tmp/bise-quan-XXXXXX";
static float *matrix;

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    matrix = bise_alloc_array(64 * COLS, sizeof *matrix);
    for (uint64_t i = 0; i < 64 * COLS; i++)
        matrix[i] = bise_rng_f32(1, 0, i) - 0.5f;
}

static void teardown(void)
{
    bise_free(matrix);
    bise_remove_tree(dir);
}

static const bise_config config = { .family = BISE_FAMILY_MINISTRAL3,
                                    .L = LAYERS, .H = 4, .K = 2 };

static void add(bise_plan *p, const char *name, uint64_t rows, uint64_t cols,
                bise_dtype type)
{
    bise_plan_tensor t = { .name = name, .dtype = type, .n_dims = 2,
                           .dims = { rows, cols },
                           .stream = bise_stream_memory(&p->arena, matrix,
                                                        rows, cols) };
    if (rows == 1) {
        t.n_dims = 1;
        t.dims[0] = cols;
    }
    ck_ok(bise_plan_add(p, &t, &err));
}

/* A model in checkpoint order, as convert would plan it. */
static void make(bise_plan *p)
{
    static const struct { const char *name; uint64_t rows; } kinds[] = {
        { "attn_norm", 1 }, { "attn_q", 16 }, { "attn_k", 8 },
        { "attn_v", 8 }, { "attn_output", 16 }, { "ffn_norm", 1 },
        { "ffn_gate", 32 }, { "ffn_up", 32 }, { "ffn_down", 16 },
    };
    bise_plan_init(p, BISE_PLAN_GGUF);
    bise_gguf_set_str(&p->meta, "general.architecture", "mistral3");
    bise_gguf_set_u32(&p->meta, "general.file_type", 0);
    bise_gguf_set_u32(&p->meta, "general.quantization_version", 2);
    bise_gguf_set_str(&p->meta, "tokenizer.ggml.model", "none");
    add(p, "token_embd.weight", 32, COLS, BISE_DTYPE_F32);
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", i, kinds[k].name);
            add(p, name, kinds[k].rows, COLS, BISE_DTYPE_F32);
        }
    add(p, "output_norm.weight", 1, COLS, BISE_DTYPE_F32);
    add(p, "output.weight", 32, COLS, BISE_DTYPE_F32);
}

static bise_quantize_options options(const char *mixture)
{
    return (bise_quantize_options){ .mixture = bise_mixture_find(mixture),
                                    .output_type = BISE_DTYPE_NONE,
                                    .embedding_type = BISE_DTYPE_NONE };
}

static bise_dtype type_of(const bise_plan *p, const char *name)
{
    const bise_plan_tensor *t = bise_plan_find(p, name);
    ck_assert_msg(t != NULL, "%s", name);
    return t->dtype;
}

START_TEST(tensors_are_in_the_order_of_llama_quantize)
{
    static const char *const want[] = {
        "output.weight", "output_norm.weight", "token_embd.weight",
        "blk.0.attn_k.weight", "blk.0.attn_norm.weight",
        "blk.0.attn_output.weight", "blk.0.attn_q.weight",
        "blk.0.attn_v.weight", "blk.0.ffn_down.weight",
        "blk.0.ffn_gate.weight", "blk.0.ffn_norm.weight",
        "blk.0.ffn_up.weight", "blk.1.attn_k.weight",
    };
    bise_plan p;
    make(&p);
    /* numbers sort as numbers: block 10 comes after block 2 */
    add(&p, "blk.10.attn_k.weight", 8, COLS, BISE_DTYPE_F32);
    const bise_quantize_options o = options("Q4_K_M");
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_str_eq(p.tensors[i].name, want[i]);
    ck_assert_str_eq(p.tensors[p.n - 1].name, "blk.10.attn_k.weight");
    bise_plan_fini(&p);
}
END_TEST

START_TEST(keys_end_with_version_and_file_type)
{
    bise_plan p;
    make(&p);
    const bise_quantize_options o = options("Q5_K_M");
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    const size_t n = p.meta.n;
    ck_assert_str_eq(p.meta.kv[0].key, "general.architecture");
    ck_assert_str_eq(p.meta.kv[n - 2].key, "general.quantization_version");
    ck_assert_str_eq(p.meta.kv[n - 1].key, "general.file_type");
    ck_assert_int_eq(bise_gguf_int(&p.meta, "general.file_type", -1), 17);
    ck_assert_int_eq(bise_gguf_int(&p.meta, "general.quantization_version",
                                   -1), 2);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(norms_stay_and_matrices_change)
{
    bise_plan p;
    make(&p);
    const bise_quantize_options o = options("Q8_0");
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    for (size_t i = 0; i < p.n; i++)
        ck_assert_int_eq(p.tensors[i].dtype, p.tensors[i].n_dims == 1
                                                 ? BISE_DTYPE_F32
                                                 : BISE_DTYPE_Q8_0);
    ck_assert(p.check_finite);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(options_win_in_the_documented_order)
{
    const bise_type_rule rules[] = {
        { "ffn_(up|down)", BISE_DTYPE_Q8_0 }, { "blk\\.1\\.", BISE_DTYPE_Q5_K },
        { "token_embd", BISE_DTYPE_Q5_0 },
    };
    bise_plan p;
    make(&p);
    bise_quantize_options o = options("Q4_K_M");
    o.rules = rules;
    o.n_rules = 3;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert_int_eq(type_of(&p, "blk.1.ffn_up.weight"), BISE_DTYPE_Q8_0);
    ck_assert_int_eq(type_of(&p, "blk.1.attn_q.weight"), BISE_DTYPE_Q5_K);
    ck_assert_int_eq(type_of(&p, "blk.2.attn_q.weight"), BISE_DTYPE_Q4_K);
    ck_assert_int_eq(type_of(&p, "token_embd.weight"), BISE_DTYPE_Q5_0);
    ck_assert_int_eq(type_of(&p, "output.weight"), BISE_DTYPE_Q6_K);
    bise_plan_fini(&p);
    /* the named options stand above the rules */
    make(&p);
    o.embedding_type = BISE_DTYPE_Q4_0;
    o.output_type = BISE_DTYPE_BF16;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert_int_eq(type_of(&p, "token_embd.weight"), BISE_DTYPE_Q4_0);
    ck_assert_int_eq(type_of(&p, "output.weight"), BISE_DTYPE_BF16);
    bise_plan_fini(&p);
    /* --pure stands below the rules, above the mixture */
    make(&p);
    o = options("Q4_K_M");
    o.pure = true;
    o.rules = rules;
    o.n_rules = 1;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert_int_eq(type_of(&p, "output.weight"), BISE_DTYPE_Q4_K);
    ck_assert_int_eq(type_of(&p, "blk.0.attn_v.weight"), BISE_DTYPE_Q4_K);
    ck_assert_int_eq(type_of(&p, "blk.0.ffn_up.weight"), BISE_DTYPE_Q8_0);
    bise_plan_fini(&p);
    /* rules do not count when the target is a float type */
    make(&p);
    o = options("BF16");
    o.rules = rules;
    o.n_rules = 3;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert_int_eq(type_of(&p, "blk.1.ffn_up.weight"), BISE_DTYPE_BF16);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(rules_are_parsed_and_refused)
{
    static const struct { const char *text, *pattern; bise_dtype type; }
        good[] = {
        { "attn_v=Q6_K", "attn_v", BISE_DTYPE_Q6_K },
        { "a=b=q8_0", "a=b", BISE_DTYPE_Q8_0 },
        { "blk\\.[0-3]\\.=iq4_xs", "blk\\.[0-3]\\.", BISE_DTYPE_IQ4_XS },
    };
    static const char *const bad[] = { "attn_v", "=Q6_K", "attn_v=", "a=Q99",
                                       "a=F8_E4M3", "(=Q6_K" };
    bise_arena a = { 0 };
    bise_type_rule r;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_ok(bise_type_rule_parse(&r, good[i].text, &a, &err));
        ck_assert_str_eq(r.pattern, good[i].pattern);
        ck_assert_int_eq(r.dtype, good[i].type);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bise_error_init(&err);
        ck_assert_msg(bise_type_rule_parse(&r, bad[i], &a, &err) != BISE_OK,
                      "%s", bad[i]);
        ck_assert(err.text[0]);
    }
    bise_arena_fini(&a);
}
END_TEST

START_TEST(fallbacks_are_counted)
{
    bise_plan p;
    int n = 0;
    bise_plan_init(&p, BISE_PLAN_GGUF);
    add(&p, "output.weight", 8, 64, BISE_DTYPE_F32);
    add(&p, "token_embd.weight", 8, 64, BISE_DTYPE_F32);
    add(&p, "blk.0.attn_q.weight", 8, 64, BISE_DTYPE_F32);
    add(&p, "blk.0.ffn_down.weight", 8, 172, BISE_DTYPE_F32);
    add(&p, "blk.0.ffn_up.weight", 8, 256, BISE_DTYPE_F32);
    const bise_quantize_options o = options("Q4_K_M");
    ck_ok(bise_quantize_plan(&p, &config, &o, &n, &err));
    /* output is Q8_0 by rule, not by fallback */
    ck_assert_int_eq(type_of(&p, "output.weight"), BISE_DTYPE_Q8_0);
    ck_assert_int_eq(type_of(&p, "token_embd.weight"), BISE_DTYPE_Q5_0);
    ck_assert_int_eq(type_of(&p, "blk.0.attn_q.weight"), BISE_DTYPE_Q5_0);
    ck_assert_int_eq(type_of(&p, "blk.0.ffn_down.weight"), BISE_DTYPE_F16);
    ck_assert_int_eq(type_of(&p, "blk.0.ffn_up.weight"), BISE_DTYPE_Q4_K);
    ck_assert_int_eq(n, 3);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(rows_without_any_type_are_an_error)
{
    bise_plan p;
    bise_plan_init(&p, BISE_PLAN_GGUF);
    add(&p, "blk.0.attn_q.weight", 8, 30, BISE_DTYPE_F32);
    const bise_quantize_options o = options("Q8_0");
    ck_fails(bise_quantize_plan(&p, &config, &o, NULL, &err),
             BISE_EUNSUPPORTED);
    ck_assert_str_eq(err.tensor, "blk.0.attn_q.weight");
    ck_assert_ptr_nonnull(strstr(err.text, "30"));
    bise_plan_fini(&p);
}
END_TEST

/* ---- importance ---- */

static void add_entry(bise_imatrix *m, const char *name, uint64_t cols,
                      uint64_t n_mat)
{
    bise_imatrix_entry *e = bise_imatrix_add(m, name, cols, n_mat);
    ck_assert_ptr_nonnull(e);
    for (uint64_t i = 0; i < cols * n_mat; i++)
        e->sums[i] = (float)(1 + i % 7);
    for (uint64_t k = 0; k < n_mat; k++)
        e->counts[k] = 2;
}

START_TEST(importance_is_attached_by_name)
{
    bise_plan p;
    bise_imatrix m = { 0 };
    make(&p);
    add_entry(&m, "blk.0.attn_q.weight", COLS, 1);
    m.chunks = 9;
    ck_assert_int_eq(bise_imatrix_add_dataset(&m, "dir/text.txt", 12), 0);
    bise_quantize_options o = options("Q4_K_M");
    o.imatrix = &m;
    o.imatrix_path = "some/where/im.gguf";
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    const bise_plan_tensor *t = bise_plan_find(&p, "blk.0.attn_q.weight");
    ck_assert_ptr_nonnull(t->imatrix);
    ck_assert_float_eq(t->imatrix[3], 2);       /* 4 / 2 */
    ck_assert_ptr_null(bise_plan_find(&p, "blk.1.attn_q.weight")->imatrix);
    size_t n = 0;
    const char *s = bise_gguf_str(&p.meta, "quantize.imatrix.file", &n);
    ck_assert(n == 7 && memcmp(s, "im.gguf", 7) == 0);
    s = bise_gguf_str(&p.meta, "quantize.imatrix.dataset", &n);
    ck_assert(n == 8 && memcmp(s, "text.txt", 8) == 0);
    ck_assert_int_eq(bise_gguf_int(&p.meta, "quantize.imatrix.entries_count",
                                   -1), 1);
    ck_assert_int_eq(bise_gguf_int(&p.meta, "quantize.imatrix.chunks_count",
                                   -1), 9);
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(importance_of_another_model_is_refused)
{
    bise_plan p;
    bise_imatrix m = { 0 };
    make(&p);
    add_entry(&m, "blk.2.attn_k.weight", COLS - 1, 1);
    bise_quantize_options o = options("Q4_K_M");
    o.imatrix = &m;
    o.imatrix_path = "im.gguf";
    ck_fails(bise_quantize_plan(&p, &config, &o, NULL, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, "blk.2.attn_k.weight");
    ck_assert_str_eq(err.path, "im.gguf");
    ck_assert_ptr_nonnull(strstr(err.hint, "another model"));
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
    /* no name in common */
    make(&p);
    add_entry(&m, "blk.77.attn_k.weight", COLS, 1);
    ck_fails(bise_quantize_plan(&p, &config, &o, NULL, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "no tensor"));
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
    /* a wrong size of the embedding alone is forgiven */
    make(&p);
    add_entry(&m, "token_embd.weight", 5, 1);
    add_entry(&m, "blk.0.attn_k.weight", COLS, 1);
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert_ptr_null(bise_plan_find(&p, "token_embd.weight")->imatrix);
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(q2_k_s_needs_importance_everywhere)
{
    bise_plan p;
    bise_imatrix m = { 0 };
    make(&p);
    bise_quantize_options o = options("Q2_K_S");
    ck_fails(bise_quantize_plan(&p, &config, &o, NULL, &err),
             BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "imatrix"));
    bise_plan_fini(&p);
    make(&p);
    for (size_t i = 0; i < p.n; i++)
        if (p.tensors[i].n_dims == 2 && strncmp(p.tensors[i].name, "blk", 3) ==
            0)
            add_entry(&m, p.tensors[i].name, COLS, 1);
    o.imatrix = &m;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
}
END_TEST

/* Two experts stacked: each is encoded with its own importance. */
START_TEST(experts_are_encoded_with_their_own_importance)
{
    enum { ROWS = 8, BYTES = 2 * ROWS * 144 };
    char path[160];
    bise_plan p;
    bise_imatrix m = { 0 };
    bise_run_result r = { 0 };
    bise_config moe = config;
    moe.E = 2;
    bise_plan_init(&p, BISE_PLAN_GGUF);
    const bise_plan_tensor t = {
        .name = "blk.0.ffn_up_exps.weight", .dtype = BISE_DTYPE_F32,
        .n_dims = 3, .dims = { 2, ROWS, COLS },
        .stream = bise_stream_memory(&p.arena, matrix, 2 * ROWS, COLS),
    };
    ck_ok(bise_plan_add(&p, &t, &err));
    add_entry(&m, t.name, COLS, 2);
    for (uint64_t i = 0; i < COLS; i++)         /* very different experts */
        m.entries[0].sums[COLS + i] = (float)(1 + (COLS - i) * 50);
    bise_quantize_options o = options("Q4_K_S");
    o.imatrix = &m;
    ck_ok(bise_quantize_plan(&p, &moe, &o, NULL, &err));
    snprintf(path, sizeof path, "%s/e.gguf", dir);
    const bise_run_options run = { .path = path, .stage = "quantize" };
    ck_ok(bise_run(&p, &run, &r, &err));
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, path, &err));
    uint8_t want[BYTES];
    const float *w = p.tensors[0].imatrix;
    const bise_codec *c = bise_codec_get(BISE_DTYPE_Q4_K);
    c->encode(want, matrix, ROWS, COLS, w);
    c->encode(want + BYTES / 2, matrix + ROWS * COLS, ROWS, COLS, w + COLS);
    ck_assert_uint_eq(g.tensors[0].bytes, BYTES);
    ck_assert_mem_eq(g.tensors[0].data, want, BYTES);
    uint8_t wrong[BYTES / 2];                   /* the test can fail */
    c->encode(wrong, matrix + ROWS * COLS, ROWS, COLS, w);
    ck_assert(memcmp(wrong, want + BYTES / 2, BYTES / 2) != 0);
    bise_gguf_close(&g);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
}
END_TEST

/* ---- whole files ---- */

static const char *const mixtures[] = {
    "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S",
    "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
    "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4",
};

START_TEST(bytes_are_the_encoders)
{
    char path[160];
    bise_plan p;
    bise_run_result r = { 0 };
    make(&p);
    const bise_quantize_options o = options(mixtures[_i]);
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    snprintf(path, sizeof path, "%s/%d.gguf", dir, _i);
    const bise_run_options run = { .path = path, .stage = "quantize",
                                   .measure = true };
    ck_ok(bise_run(&p, &run, &r, &err));
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, path, &err));
    ck_assert_uint_eq(g.n_tensors, p.n);
    for (size_t i = 0; i < p.n; i++) {
        const bise_tensor *t = &g.tensors[i];
        const uint64_t n = bise_tensor_count(t);
        ck_assert_str_eq(t->name, p.tensors[i].name);
        ck_assert_int_eq(t->dtype, p.tensors[i].dtype);
        uint8_t *want = bise_alloc(t->bytes);
        bise_codec_get(t->dtype)->encode(want, matrix,
                                         (size_t)bise_tensor_rows(t),
                                         (size_t)bise_tensor_cols(t), NULL);
        ck_assert_msg(memcmp(t->data, want, t->bytes) == 0, "%s", t->name);
        /* rmse is that of decoding what was written */
        float *y = bise_alloc_array(n, sizeof *y);
        bise_codec_get(t->dtype)->decode(y, want, n);
        double sum = 0;
        for (uint64_t k = 0; k < n; k++)
            sum += ((double)matrix[k] - y[k]) * ((double)matrix[k] - y[k]);
        if (t->dtype != BISE_DTYPE_F32)
            ck_assert_double_eq_tol(r.stats[i].square_error, sum,
                                    1e-9 + 1e-9 * sum);
        bise_free(want);
        bise_free(y);
    }
    bise_gguf_close(&g);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(encoding_twice_must_be_allowed)
{
    uint8_t blocks[8 * 34];
    memset(blocks, 0, sizeof blocks);
    bise_plan p;
    bise_plan_init(&p, BISE_PLAN_GGUF);
    /* a file with one Q8_0 tensor, opened as a store */
    char path[160];
    bise_tensor t = { .name = "blk.0.attn_q.weight", .dtype = BISE_DTYPE_Q8_0,
                      .n_dims = 2, .dims = { 1, 256 } };
    bise_gguf_meta meta = { 0 };
    bise_str head = { 0 };
    uint64_t bytes = 0;
    bise_gguf_set_str(&meta, "general.architecture", "llama");
    ck_ok(bise_gguf_header(&head, &meta, &t, 1, &bytes, &err));
    bise_str_add(&head, blocks, sizeof blocks);
    while (head.len % 32)
        bise_str_putc(&head, 0);
    snprintf(path, sizeof path, "%s/q8.gguf", dir);
    ck_ok(bise_file_write(path, head.data, head.len, &err));
    bise_store *store = NULL;
    ck_ok(bise_store_open(&store, path, &err));
    const bise_plan_tensor x = {
        .name = t.name, .dtype = BISE_DTYPE_Q8_0, .n_dims = 2,
        .dims = { 1, 256 },
        .stream = bise_stream_tensor(&p.arena, store,
                                     bise_store_at(store, 0)),
    };
    ck_ok(bise_plan_add(&p, &x, &err));
    bise_quantize_options o = options("Q4_K_M");
    ck_fails(bise_quantize_plan(&p, &config, &o, NULL, &err),
             BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.hint, "--allow-requantize"));
    o.allow_requantize = true;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert_int_eq(p.tensors[0].dtype, BISE_DTYPE_Q4_K);
    /* the same type is copied: no permission needed */
    o = options("Q8_0");
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_assert(bise_plan_is_raw(&p.tensors[0]));
    bise_plan_fini(&p);
    bise_store_close(store);
    bise_gguf_meta_fini(&meta);
    bise_str_fini(&head);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("quantize");
    TCase *t = tcase_create("plan");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, tensors_are_in_the_order_of_llama_quantize);
    tcase_add_test(t, keys_end_with_version_and_file_type);
    tcase_add_test(t, norms_stay_and_matrices_change);
    tcase_add_test(t, options_win_in_the_documented_order);
    tcase_add_test(t, rules_are_parsed_and_refused);
    tcase_add_test(t, fallbacks_are_counted);
    tcase_add_test(t, rows_without_any_type_are_an_error);
    tcase_add_test(t, importance_is_attached_by_name);
    tcase_add_test(t, importance_of_another_model_is_refused);
    tcase_add_test(t, q2_k_s_needs_importance_everywhere);
    tcase_add_test(t, experts_are_encoded_with_their_own_importance);
    tcase_add_loop_test(t, bytes_are_the_encoders, 0,
                        (int)(sizeof mixtures / sizeof *mixtures));
    tcase_add_test(t, encoding_twice_must_be_allowed);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
