/* check_basequant.c - the quantized copy of a base: its bytes are those of the
 * encoders, any number of threads makes the same, linears read it in every row
 * order and through stacked experts, and what cannot be quantized is refused
 * by name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/basequant.h"

#include <math.h>
#include <signal.h>
#include <string.h>

#include "kernels/codec.h"
#include "kernels/dynmap.h"
#include "model/linear_int.h"
#include "tests/tiny_model.h"

/* Rows of 64 and 96: whole blocks of 32, not of 256. */
#define TEXT "\"hidden_size\":64,\"intermediate_size\":96," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":10," \
    "\"rms_norm_eps\":1e-5"
#define MISTRAL "{\"model_type\":\"mistral\"," TEXT "}"
#define NATIVE "{\"dim\":64,\"hidden_dim\":96,\"n_layers\":2,\"n_heads\":4," \
    "\"n_kv_heads\":2,\"head_dim\":16,\"norm_eps\":1e-5,\"vocab_size\":10}"
#define MOE "{\"model_type\":\"mixtral\"," TEXT ",\"num_local_experts\":3," \
    "\"num_experts_per_tok\":2}"

static char dir[64];
static bise_error err;
static bise_checkpoint c;
static tiny *m;

static void set_up(void)
{
    strcpy(dir, "/tmp/bise-base-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    m = bise_alloc(sizeof *m);
}

static void tear_down(void)
{
    bise_checkpoint_close(&c);
    tiny_free(m);
    bise_free(m);
    bise_remove_tree(dir);
}

/* Write the model of a configuration and open it. */
static void open_model(const char *text, bise_names names)
{
    bise_config config;
    bise_json *v = NULL;
    const bool native = names == BISE_NAMES_NATIVE;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    ck_ok(native ? bise_config_from_native(&config, v, &err)
                 : bise_config_from_hf(&config, v, &err));
    tiny_fill(m, &config, names, "");
    bise_config_fini(&config);
    bise_json_free(v);
    tiny_save(m, dir, native ? "consolidated.safetensors"
                             : "model.safetensors",
              native ? "params.json" : "config.json", text);
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
}

/* Values of a stored tensor. */
static const float *values(const bise_weight *w)
{
    const void *p = NULL;
    ck_ok(bise_store_data(c.store, w->tensor, &p, &err));
    return p;
}

static const char *const types[] = { "NF4", "Q8_0", "Q4_0", "IQ4_NL",
                                     "MXFP4", "Q5_1" };

START_TEST(bytes_are_those_of_the_encoders)
{
    static uint8_t want[1 << 16];
    static float absmax[1 << 10], nested[16];
    const bise_dtype t = bise_dtype_by_name(types[_i]);
    bise_basequant *b = NULL;
    bise_dynmap map;
    uint64_t planned, source, sum = 0, stored = 0;
    bise_dynmap_init(&map, true);
    open_model(MISTRAL, BISE_NAMES_HF);
    ck_ok(bise_basequant_plan(&planned, &source, &c, t, &err));
    ck_ok(bise_basequant_new(&b, &c, t, NULL, NULL, &err));
    for (size_t i = 0; i < c.n; i++) {
        const bise_weight *w = &c.weights[i];
        const size_t n = (size_t)bise_tensor_count(w->tensor);
        ck_assert(bise_basequant_takes(w->role) == (w->packed != NULL));
        if (!w->packed)
            continue;
        sum += w->packed->bytes;
        stored += w->tensor->bytes;
        const float *x = values(w);
        if (t == BISE_DTYPE_NF4) {
            uint8_t codes8[1 << 10];
            const uint64_t blocks = bise_nf4_encode(want, absmax, x, n);
            const float offset = bise_nf4_nest(codes8, nested, absmax, blocks,
                                               &map);
            ck_assert_mem_eq(w->packed->nf4.absmax8, codes8, blocks);
            ck_assert(w->packed->nf4.offset == offset);
            ck_assert(w->packed->nf4.absmax[0] == nested[0]);
        } else {
            const size_t cols = (size_t)bise_tensor_cols(w->tensor);
            bise_codec_get(t)->encode(want, x, n / cols, cols, NULL);
        }
        ck_assert_mem_eq(w->packed->data, want, w->packed->bytes);
    }
    ck_assert_uint_eq(source, stored);
    ck_assert_uint_ge(planned, sum);
    ck_assert_uint_lt(planned, stored);
    bise_basequant_free(b);
    for (size_t i = 0; i < c.n; i++)
        ck_assert_ptr_null(c.weights[i].packed);
}
END_TEST

/* Row r of a linear against the copy's own decoding of stored row s. */
static void check_row(const bise_linear *l, int32_t r, const bise_weight *w,
                      uint64_t s)
{
    float got[128], want[128];
    const size_t in = (size_t)l->in;
    bise_linear_row(l, r, got);
    if (w->packed->dtype == BISE_DTYPE_NF4)
        bise_nf4_decode(&w->packed->nf4, s * in, in, want);
    else if (w->packed->dtype == BISE_DTYPE_I8)
        for (size_t i = 0; i < in; i++)
            want[i] = (float)(int8_t)w->packed->data[s * in + i] *
                      w->packed->row_scales[s];
    else
        bise_codec_get(w->packed->dtype)->decode(
            want, w->packed->data + bise_dtype_bytes(w->packed->dtype, s * in),
            in);
    ck_assert_mem_eq(got, want, in * sizeof *got);
    const float *x = values(w) + s * in;
    for (size_t i = 0; i < in; i++)
        ck_assert_float_eq_tol(got[i], x[i], 0.09f);
}

START_TEST(linears_read_the_copy_in_any_row_order)
{
    bise_basequant *b = NULL;
    open_model(_i & 1 ? NATIVE : MISTRAL,
               _i & 1 ? BISE_NAMES_NATIVE : BISE_NAMES_HF);
    ck_ok(bise_basequant_new(&b, &c, _i & 4 ? BISE_DTYPE_I8 :
                                    _i & 2 ? BISE_DTYPE_Q8_0 :
                                             BISE_DTYPE_NF4, NULL, NULL,
                             &err));
    const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_Q, 1);
    bise_linear l;
    ck_ok(bise_linear_init(&l, &c, w, -1, 0, 0, &err));
    ck_assert_int_eq(l.dtype, w->packed->dtype);
    ck_assert_int_eq(l.pair_rows, _i & 1 ? 16 : 0);
    for (int32_t r = 0; r < l.out; r++) {
        const int32_t at = r % 16;
        check_row(&l, r, w, (uint64_t)(_i & 1 ? r - at + 2 * (at % 8) + at / 8
                                              : r));
    }
    /* norms and embedding are left as they are */
    w = bise_checkpoint_get(&c, BISE_ROLE_EMBED, -1);
    ck_ok(bise_linear_init(&l, &c, w, -1, 0, 0, &err));
    ck_assert_int_eq(l.dtype, BISE_DTYPE_F32);
    bise_basequant_free(b);
}
END_TEST

START_TEST(experts_are_quantized_routers_are_not)
{
    bise_basequant *b = NULL;
    open_model(MOE, BISE_NAMES_HF);
    ck_ok(bise_basequant_new(&b, &c, BISE_DTYPE_NF4, NULL, NULL, &err));
    ck_assert_ptr_null(bise_checkpoint_get(&c, BISE_ROLE_ROUTER, 0)->packed);
    for (int32_t e = 0; e < 3; e++) {
        const bise_role role = { BISE_ROLE_EXP_DOWN, 1, e };
        const bise_weight *w = bise_checkpoint_find(&c, role);
        bise_linear l;
        ck_assert_ptr_nonnull(w);
        ck_ok(bise_linear_init(&l, &c, w, -1, 0, 0, &err));
        for (int32_t r = 0; r < l.out; r++)
            check_row(&l, r, w, (uint64_t)r);
    }
    bise_basequant_free(b);
}
END_TEST

/* Experts of a stack and halves of a fused one are ranges of its weights. */
START_TEST(slices_of_a_stack_are_ranges_of_its_codes)
{
    enum { E = 3, OUT = 5, IN = 96, N = E * OUT * IN };
    static float x[N];
    static uint8_t codes[N / 2], rows[E * OUT * IN / 32 * 34];
    float absmax[N / 64 + 1], got[IN], want[IN];
    for (int i = 0; i < N; i++)
        x[i] = bise_rng_f32(3, 3, (uint64_t)i) - 0.5f;
    open_model(MISTRAL, BISE_NAMES_HF);
    (void)bise_nf4_encode(codes, absmax, x, N);
    bise_codec_get(BISE_DTYPE_Q8_0)->encode(rows, x, E * OUT, IN, NULL);
    bise_packed p[2] = {
        { .dtype = BISE_DTYPE_NF4, .data = codes, .bytes = sizeof codes,
          .nf4 = { .n = N, .block = 64, .codes = codes, .map = bise_nf4_map,
                   .absmax = absmax } },
        { .dtype = BISE_DTYPE_Q8_0, .data = rows, .bytes = sizeof rows } };
    const bise_tensor t = { .name = "stack", .n_dims = 3,
                            .dims = { E, OUT, IN } };
    for (int k = 0; k < 2; k++)
        for (int32_t e = 0; e < E; e++) {
            bise_linear l;
            const bise_weight w = { .tensor = &t, .packed = &p[k] };
            ck_ok(bise_linear_init(&l, &c, &w, e, 2, 3, &err));
            ck_assert_int_eq(l.out, 3);
            for (int32_t r = 0; r < 3; r++) {
                const size_t at = (size_t)(e * OUT + 2 + r);
                bise_linear_row(&l, r, got);
                if (k)
                    bise_codec_get(BISE_DTYPE_Q8_0)->decode(
                        want, rows + at * IN / 32 * 34, IN);
                else
                    bise_nf4_decode(&p[0].nf4, at * IN, IN, want);
                ck_assert_mem_eq(got, want, sizeof got);
            }
            ck_fails(bise_linear_init(&l, &c, &w, e, 2, e == 2 ? 4 : 14,
                                      &err), BISE_EFORMAT);
        }
}
END_TEST

START_TEST(threads_do_not_change_a_byte)
{
    bise_basequant *b = NULL;
    bise_pool *pool = NULL;
    static uint8_t first[64][8192];
    open_model(MISTRAL, BISE_NAMES_HF);
    ck_ok(bise_basequant_new(&b, &c, BISE_DTYPE_NF4, NULL, NULL, &err));
    for (size_t i = 0; i < c.n; i++)
        if (c.weights[i].packed)
            memcpy(first[i], c.weights[i].packed->data,
                   c.weights[i].packed->bytes);
    bise_basequant_free(b);
    ck_ok(bise_pool_new(&pool, 3, &err));
    ck_ok(bise_basequant_new(&b, &c, BISE_DTYPE_NF4, pool, NULL, &err));
    for (size_t i = 0; i < c.n; i++)
        if (c.weights[i].packed)
            ck_assert_mem_eq(first[i], c.weights[i].packed->data,
                             c.weights[i].packed->bytes);
    bise_basequant_free(b);
    bise_pool_free(pool);
}
END_TEST

START_TEST(refuses_what_it_cannot_quantize)
{
    bise_basequant *b = NULL;
    uint64_t bytes;
    open_model(MISTRAL, BISE_NAMES_HF);
    ck_fails(bise_basequant_new(&b, &c, BISE_DTYPE_Q4_K, NULL, NULL, &err),
             BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "multiples of 256"));
    ck_assert_ptr_nonnull(strstr(err.hint, "nf4"));
    ck_assert_ptr_nonnull(strstr(err.tensor, "proj"));
    ck_fails(bise_basequant_plan(&bytes, NULL, &c, BISE_DTYPE_BF16, &err),
             BISE_EUNSUPPORTED);
    ck_fails(bise_basequant_plan(&bytes, NULL, &c, BISE_DTYPE_IQ2_XS, &err),
             BISE_EUNSUPPORTED);
    /* a base that is quantized already */
    bise_tensor stored = *c.weights[1].tensor;
    stored.dtype = BISE_DTYPE_Q8_0;
    for (size_t i = 0; i < c.n; i++)
        if (bise_basequant_takes(c.weights[i].role)) {
            c.weights[i].tensor = &stored;
            break;
        }
    ck_fails(bise_basequant_new(&b, &c, BISE_DTYPE_NF4, NULL, NULL, &err),
             BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.hint, "as they are stored"));
}
END_TEST

START_TEST(names_the_first_weight_that_is_not_finite)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    bise_basequant *b = NULL;
    open_model(MISTRAL, BISE_NAMES_HF);
    bise_checkpoint_close(&c);
    const char *name = "model.layers.1.mlp.up_proj.weight";
    float *x = (float *)(uintptr_t)tiny_find(m, name)->data;
    x[1234] = bad[_i];
    x[4321] = NAN;
    tiny_save(m, dir, "model.safetensors", NULL, NULL);
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
    ck_fails(bise_basequant_new(&b, &c, BISE_DTYPE_NF4, NULL, NULL, &err),
             BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, name);
    ck_assert_ptr_nonnull(strstr(err.text, "weight 1234 of"));
    ck_assert_ptr_nonnull(strstr(err.path, "model.safetensors"));
}
END_TEST

static volatile sig_atomic_t stop = 1;

START_TEST(stops_when_asked_and_survives_lack_of_memory)
{
    const bise_progress p = { .cancel = &stop };
    bise_basequant *b = NULL;
    open_model(MISTRAL, BISE_NAMES_HF);
    ck_fails(bise_basequant_new(&b, &c, BISE_DTYPE_NF4, NULL, &p, &err),
             BISE_ECANCEL);
    for (uint64_t n = 1; n < 200; n++) {
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_basequant_new(&b, &c, BISE_DTYPE_Q8_0, NULL,
                                                 NULL, &err);
        bise_alloc_fail_after(0);
        if (s == BISE_OK) {
            ck_assert_uint_gt(n, 14);
            bise_basequant_free(b);
            return;
        }
        ck_assert_int_eq(s, BISE_ENOMEM);
        for (size_t i = 0; i < c.n; i++)
            ck_assert_ptr_null(c.weights[i].packed);
    }
    ck_abort_msg("never had enough memory");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("basequant");
    TCase *t = tcase_create("basequant");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, bytes_are_those_of_the_encoders, 0,
                        sizeof types / sizeof *types);
    tcase_add_loop_test(t, linears_read_the_copy_in_any_row_order, 0, 6);
    tcase_add_test(t, experts_are_quantized_routers_are_not);
    tcase_add_test(t, slices_of_a_stack_are_ranges_of_its_codes);
    tcase_add_test(t, threads_do_not_change_a_byte);
    tcase_add_test(t, refuses_what_it_cannot_quantize);
    tcase_add_loop_test(t, names_the_first_weight_that_is_not_finite, 0, 3);
    tcase_add_test(t, stops_when_asked_and_survives_lack_of_memory);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
