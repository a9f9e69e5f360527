/* check_imatrix.c - tests of quantize/imatrix.c and calibrate.c: both file
 * forms round trip, every truncation and every wrong field is refused with its
 * place, a real file of llama.cpp reads, and collected sums are exact.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/pool.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "quantize/calibrate.h"
#include "quantize/imatrix.h"
#include "tests/check_main.h"

static bise_error err;
static char dir[] = "/tmp/bise-imat-XXXXXX";

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

static const char *at(const char *name)
{
    static char paths[4][160];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

/* Three entries in no order, one of them with two experts. */
static void make(bise_imatrix *m)
{
    static const struct { const char *name; uint64_t cols, n_mat; } rows[] = {
        { "blk.1.ffn_down.weight", 8, 1 },
        { "blk.0.ffn_up_exps.weight", 5, 2 },
        { "blk.0.attn_q.weight", 3, 1 },
    };
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < 3; i++) {
        bise_imatrix_entry *e = bise_imatrix_add(m, rows[i].name, rows[i].cols,
                                                 rows[i].n_mat);
        ck_assert_ptr_nonnull(e);
        for (uint64_t k = 0; k < e->cols * e->n_mat; k++)
            e->sums[k] = (float)(1 + i * 100 + k) * 0.25f;
        for (uint64_t k = 0; k < e->n_mat; k++)
            e->counts[k] = (float)(512 * (k + 1));
    }
    m->chunks = 3;
    m->chunk_size = 512;
    ck_assert_int_eq(bise_imatrix_add_dataset(m, "a.txt", 5), 0);
    ck_assert_int_eq(bise_imatrix_add_dataset(m, "b.jsonl", 7), 0);
}

START_TEST(gguf_round_trips)
{
    bise_imatrix m, n = { 0 };
    make(&m);
    ck_ok(bise_imatrix_save(&m, at("m.gguf"), false, &err));
    ck_ok(bise_imatrix_load(&n, at("m.gguf"), &err));
    ck_assert_uint_eq(n.n, 3);
    ck_assert_uint_eq(n.chunks, 3);
    ck_assert_uint_eq(n.chunk_size, 512);
    ck_assert_uint_eq(n.n_datasets, 2);
    ck_assert_str_eq(n.datasets[0], "a.txt");
    ck_assert_str_eq(n.datasets[1], "b.jsonl");
    for (size_t i = 0; i < m.n; i++) {
        const bise_imatrix_entry *a = &m.entries[i];
        const bise_imatrix_entry *b = bise_imatrix_find(&n, a->name);
        ck_assert_ptr_nonnull(b);
        ck_assert_uint_eq(a->cols, b->cols);
        ck_assert_uint_eq(a->n_mat, b->n_mat);
        ck_assert_mem_eq(a->sums, b->sums, a->cols * a->n_mat * sizeof(float));
        ck_assert_mem_eq(a->counts, b->counts, a->n_mat * sizeof(float));
    }
    bise_imatrix_fini(&m);
    bise_imatrix_fini(&n);
}
END_TEST

START_TEST(gguf_has_the_layout_of_llama_imatrix)
{
    bise_imatrix m;
    make(&m);
    ck_ok(bise_imatrix_save(&m, at("m.gguf"), false, &err));
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    ck_assert_uint_eq(g.n_tensors, 6);
    /* names sorted bytewise: ".counts" before ".in_sum2" */
    for (size_t i = 1; i < g.n_tensors; i++)
        ck_assert_int_lt(strcmp(g.tensors[i - 1].name, g.tensors[i].name), 0);
    ck_assert_str_eq(g.tensors[0].name, "blk.0.attn_q.weight.counts");
    const bise_tensor *t = bise_gguf_find(&g, "blk.0.ffn_up_exps.weight"
                                              ".in_sum2");
    ck_assert_uint_eq(bise_tensor_cols(t), 5);
    ck_assert_uint_eq(bise_tensor_rows(t), 2);
    ck_assert_ptr_null(bise_gguf_get(&g.meta, "general.architecture"));
    size_t n = 0;
    const char *type = bise_gguf_str(&g.meta, "general.type", &n);
    ck_assert(n == 7 && memcmp(type, "imatrix", 7) == 0);
    bise_gguf_close(&g);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(dat_round_trips_the_weights)
{
    bise_imatrix m, n = { 0 };
    make(&m);
    bise_arena a = { 0 };
    ck_ok(bise_imatrix_save(&m, at("m.dat"), false, &err));
    ck_ok(bise_imatrix_load(&n, at("m.dat"), &err));
    ck_assert_uint_eq(n.n, 3);
    ck_assert_uint_eq(n.chunks, 3);
    ck_assert_str_eq(n.datasets[0], "a.txt");
    for (size_t i = 0; i < m.n; i++) {
        const bise_imatrix_entry *x = &m.entries[i];
        const bise_imatrix_entry *y = bise_imatrix_find(&n, x->name);
        ck_assert_uint_eq(x->cols * x->n_mat, y->cols * y->n_mat);
        const float *wx = bise_imatrix_weights(x, &a);
        const float *wy = bise_imatrix_weights(y, &a);
        for (uint64_t k = 0; k < x->cols * x->n_mat; k++)
            ck_assert_float_eq_tol(wx[k], wy[k], 1e-6f * wx[k]);
    }
    bise_arena_fini(&a);
    bise_imatrix_fini(&m);
    bise_imatrix_fini(&n);
}
END_TEST

START_TEST(dat_bytes_are_those_of_the_format)
{
    bise_imatrix m = { 0 };
    bise_imatrix_entry *e = bise_imatrix_add(&m, "w", 2, 1);
    e->sums[0] = 1024;
    e->sums[1] = 0;
    e->counts[0] = 1024;                        /* two calls of 512 */
    m.chunks = 7;
    m.chunk_size = 512;
    ck_assert_int_eq(bise_imatrix_add_dataset(&m, "x", 1), 0);
    ck_ok(bise_imatrix_save(&m, at("w.dat"), false, &err));
    bise_str s = { 0 };
    ck_ok(bise_file_read(&s, at("w.dat"), &err));
    ck_assert_uint_eq(s.len, 4 + 4 + 1 + 4 + 4 + 8 + 4 + 4 + 1);
    ck_assert_uint_eq(bise_load_le32(s.data), 1);          /* entries */
    ck_assert_uint_eq(bise_load_le32(s.data + 4), 1);      /* name */
    ck_assert_int_eq(s.data[8], 'w');
    ck_assert_uint_eq(bise_load_le32(s.data + 9), 2);      /* calls */
    ck_assert_uint_eq(bise_load_le32(s.data + 13), 2);     /* values */
    ck_assert_uint_eq(bise_load_le32(s.data + 17), bise_f32_bits(2.0f));
    ck_assert_uint_eq(bise_load_le32(s.data + 21), 0);
    ck_assert_uint_eq(bise_load_le32(s.data + 25), 7);     /* chunks */
    ck_assert_uint_eq(bise_load_le32(s.data + 29), 1);
    ck_assert_int_eq(s.data[33], 'x');
    bise_str_fini(&s);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(weights_are_means_and_one_where_nothing_came)
{
    bise_imatrix m = { 0 };
    bise_arena a = { 0 };
    bise_imatrix_entry *e = bise_imatrix_add(&m, "w", 2, 2);
    e->sums[0] = 6;
    e->sums[1] = 3;
    e->sums[2] = 5;
    e->counts[0] = 3;
    e->counts[1] = 0;
    const float *w = bise_imatrix_weights(e, &a);
    ck_assert_float_eq(w[0], 2);
    ck_assert_float_eq(w[1], 1);
    ck_assert_float_eq(w[2], 1);
    ck_assert_float_eq(w[3], 1);
    bise_arena_fini(&a);
    bise_imatrix_fini(&m);
}
END_TEST

/* Cut a file after n bytes and load what is left. Written without the sync of
 * bise_file_write, which would make hundreds of cuts slow. */
static bise_status load_cut(const bise_str *s, size_t n, const char *name)
{
    bise_imatrix m = { 0 };
    bise_error_init(&err);
    FILE *f = fopen(at(name), "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(s->data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
    const bise_status st = bise_imatrix_load(&m, at(name), &err);
    bise_imatrix_fini(&m);
    return st;
}

START_TEST(every_truncation_of_gguf_is_refused)
{
    bise_imatrix m;
    bise_str s = { 0 };
    make(&m);
    ck_ok(bise_imatrix_save(&m, at("m.gguf"), false, &err));
    ck_ok(bise_file_read(&s, at("m.gguf"), &err));
    /* the last tensor ends before its padding */
    for (size_t n = 0; n + 32 < s.len; n++) {
        ck_assert_int_eq(load_cut(&s, n, "cut"), BISE_EFORMAT);
        ck_assert_str_eq(err.path, at("cut"));
        ck_assert(err.text[0]);
    }
    bise_str_fini(&s);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(every_truncation_of_dat_is_refused_or_lacks_the_trailer)
{
    bise_imatrix m;
    bise_str s = { 0 };
    make(&m);
    ck_ok(bise_imatrix_save(&m, at("m.dat"), false, &err));
    ck_ok(bise_file_read(&s, at("m.dat"), &err));
    const size_t trailer = 4 + 4 + 5;           /* chunks, length, "a.txt" */
    for (size_t n = 0; n < s.len; n++) {
        const bise_status st = load_cut(&s, n, "cut");
        if (n < s.len - trailer)
            ck_assert_int_eq(st, BISE_EFORMAT);
        else
            ck_assert_int_eq(st, BISE_OK);
    }
    bise_str_fini(&s);
    bise_imatrix_fini(&m);
}
END_TEST

/* Wrong fields of the old form: where, and what replaces them. */
static const struct { size_t offset; uint32_t value; const char *words; }
    wrong[] = {
    { 0, 0, "number of entries" },              /* no entry */
    { 0, 0x7fffffff, "number of entries" },     /* more than fit */
    { 0, 0xffffffff, "number of entries" },     /* negative */
    { 4, 0, "length of a name" },
    { 4, 0xffffffff, "length of a name" },
    { 4, 100000, "length of a name" },
    { 4 + 4 + 19 + 4, 0, "number of values" },
    { 4 + 4 + 19 + 4, 0x40000000, "number of values" },
    { 4 + 4 + 19 + 4, 0xfffffff0, "number of values" },
    { 4 + 4 + 19 + 8, 0x7fc00000, "not a finite" },   /* NaN value */
    { 4 + 4 + 19 + 8, 0x7f800000, "not a finite" },   /* infinity */
    { 4 + 4 + 19 + 8, 0xbf800000, "not a finite" },   /* -1 */
};

START_TEST(wrong_fields_of_dat_are_named)
{
    bise_imatrix m;
    bise_str s = { 0 };
    make(&m);
    ck_ok(bise_imatrix_save(&m, at("m.dat"), false, &err));
    ck_ok(bise_file_read(&s, at("m.dat"), &err));
    bise_store_le32(s.data + wrong[_i].offset, wrong[_i].value);
    ck_assert_int_eq(load_cut(&s, s.len, "bad"), BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, wrong[_i].words) != NULL, "%s", err.text);
    ck_assert_str_eq(err.path, at("bad"));
    bise_str_fini(&s);
    bise_imatrix_fini(&m);
}
END_TEST

/* Write a GGUF with one pair of tensors and any keys. */
static void write_pair(const char *path, bise_tensor *t, size_t n,
                       const char *without)
{
    bise_gguf_meta meta = { 0 };
    bise_str head = { 0 }, sets = { 0 };
    uint64_t bytes = 0;
    bise_gguf_strings_begin(&sets);
    bise_gguf_set_strings(&meta, "imatrix.datasets", &sets, 0);
    bise_gguf_set_u32(&meta, "imatrix.chunk_count", 1);
    bise_gguf_set_u32(&meta, "imatrix.chunk_size", 512);
    if (without)
        bise_gguf_remove(&meta, without);
    ck_ok(bise_gguf_header(&head, &meta, t, n, &bytes, &err));
    char zero[256] = { 0 };
    ck_assert_uint_le(bytes, sizeof zero);
    bise_str_add(&head, zero, (size_t)bytes);
    ck_ok(bise_file_write(path, head.data, head.len, &err));
    bise_str_fini(&head);
    bise_str_fini(&sets);
    bise_gguf_meta_fini(&meta);
}

START_TEST(gguf_without_a_key_is_no_imatrix)
{
    static const char *const keys[] = { "imatrix.datasets",
                                        "imatrix.chunk_count",
                                        "imatrix.chunk_size" };
    bise_imatrix m = { 0 };
    bise_tensor t[2] = {
        { .name = "w.counts", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 1, 1 } },
        { .name = "w.in_sum2", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 1, 4 } },
    };
    write_pair(at("ok.gguf"), t, 2, NULL);
    ck_ok(bise_imatrix_load(&m, at("ok.gguf"), &err));
    bise_imatrix_fini(&m);
    write_pair(at("no.gguf"), t, 2, keys[_i]);
    ck_fails(bise_imatrix_load(&m, at("no.gguf"), &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, keys[_i]));
}
END_TEST

START_TEST(gguf_pairs_must_fit)
{
    bise_imatrix m = { 0 };
    bise_tensor t[2] = {
        { .name = "w.counts", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 3, 1 } },                   /* three counts, one matrix */
        { .name = "w.in_sum2", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 1, 4 } },
    };
    write_pair(at("a.gguf"), t, 2, NULL);
    ck_fails(bise_imatrix_load(&m, at("a.gguf"), &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "w.counts"));
    write_pair(at("b.gguf"), t + 1, 1, NULL);   /* no counts at all */
    ck_fails(bise_imatrix_load(&m, at("b.gguf"), &err), BISE_EFORMAT);
    t[0].dims[0] = 1;
    t[1].dtype = BISE_DTYPE_F16;                /* wrong type */
    write_pair(at("c.gguf"), t, 2, NULL);
    ck_fails(bise_imatrix_load(&m, at("c.gguf"), &err), BISE_EFORMAT);
    write_pair(at("d.gguf"), t, 1, NULL);       /* counts without sums */
    ck_fails(bise_imatrix_load(&m, at("d.gguf"), &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "no entries"));
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    bise_imatrix m = { 0 };
    ck_assert_ptr_null(bise_imatrix_add(&m, "w", 0, 1));
    ck_assert_ptr_null(bise_imatrix_add(&m, "w", 1, 0));
    ck_assert_ptr_null(bise_imatrix_add(&m, "w", UINT64_MAX / 2, 8));
    ck_assert_uint_eq(m.n, 0);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(an_existing_file_is_kept)
{
    bise_imatrix m;
    make(&m);
    ck_ok(bise_file_write(at("m.gguf"), "mine", 4, &err));
    bise_error_init(&err);
    ck_assert_int_ne(bise_imatrix_save(&m, at("m.gguf"), false, &err),
                     BISE_OK);
    ck_assert_uint_eq(bise_file_size(at("m.gguf")), 4);
    ck_ok(bise_imatrix_save(&m, at("m.gguf"), true, &err));
    ck_assert_uint_gt(bise_file_size(at("m.gguf")), 100);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(reads_a_file_of_llama_imatrix)
{
    const char *shared = getenv("BISE_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/data/imatrix/tinyllama-1.1b.imatrix.dat",
             shared ? shared : BISE_SRCDIR "/../shared");
    if (!bise_file_exists(path)) {
        puts("skipped: no ../shared");
        return;
    }
    bise_imatrix m = { 0 };
    ck_ok(bise_imatrix_load(&m, path, &err));
    ck_assert_uint_ge(m.n, 22 * 7);             /* 22 blocks of TinyLlama */
    const bise_imatrix_entry *e =
        bise_imatrix_find(&m, "blk.21.ffn_down.weight");
    ck_assert_ptr_nonnull(e);
    ck_assert_uint_eq(e->cols, 5632);
    e = bise_imatrix_find(&m, "blk.0.attn_q.weight");
    ck_assert_uint_eq(e->cols, 2048);
    bise_imatrix_fini(&m);
}
END_TEST

/* ---- collecting ---- */

enum { L = 2, E = 3, IN = 300, T = 40 };

static const bise_config config = { .family = BISE_FAMILY_MIXTRAL, .L = L,
                                    .E = E };

static void fill(float *x, uint64_t stream)
{
    for (uint64_t i = 0; i < T * IN; i++)
        x[i] = bise_rng_f32(7, stream, i) - 0.5f;
}

START_TEST(sums_are_exact_and_do_not_depend_on_threads)
{
    static float x[T * IN];
    bise_imatrix first = { 0 };
    for (int threads = 1; threads <= 4; threads++) {
        bise_pool *pool = NULL;
        bise_collector *c = NULL;
        bise_imatrix m = { 0 };
        ck_ok(bise_pool_new(&pool, threads, &err));
        ck_ok(bise_collector_new(&c, &config, pool, &err));
        const bise_role q = { BISE_ROLE_Q, 1, -1 };
        for (uint64_t call = 0; call < 3; call++) {
            fill(x, call);
            ck_ok(bise_collector_tap(c, q, x, T, IN, &err));
        }
        ck_ok(bise_collector_take(c, &m, &err));
        ck_assert_uint_eq(m.n, 1);
        ck_assert_str_eq(m.entries[0].name, "blk.1.attn_q.weight");
        ck_assert_float_eq(m.entries[0].counts[0], 3 * T);
        for (int i = 0; i < IN && threads == 1; i++) {
            double sum = 0;
            for (uint64_t call = 0; call < 3; call++) {
                fill(x, call);
                for (int t = 0; t < T; t++)
                    sum += (double)x[t * IN + i] * x[t * IN + i];
            }
            ck_assert_float_eq(m.entries[0].sums[i], (float)sum);
        }
        if (threads == 1) {
            first = m;
        } else {
            ck_assert_mem_eq(m.entries[0].sums, first.entries[0].sums,
                             IN * sizeof(float));
            bise_imatrix_fini(&m);
        }
        bise_collector_free(c);
        bise_pool_free(pool);
    }
    bise_imatrix_fini(&first);
}
END_TEST

START_TEST(experts_share_an_entry_with_a_slice_each)
{
    static float x[T * IN];
    bise_collector *c = NULL;
    bise_imatrix m = { 0 };
    ck_ok(bise_collector_new(&c, &config, NULL, &err));
    for (int e = 0; e < E - 1; e++) {           /* the last one sees nothing */
        const bise_role role = { BISE_ROLE_EXP_DOWN, 0, e };
        fill(x, (uint64_t)e);
        ck_ok(bise_collector_tap(c, role, x, 5 + e, IN, &err));
    }
    ck_ok(bise_collector_take(c, &m, &err));
    const bise_imatrix_entry *e = bise_imatrix_find(
        &m, "blk.0.ffn_down_exps.weight");
    ck_assert_ptr_nonnull(e);
    ck_assert_uint_eq(e->n_mat, E);
    ck_assert_float_eq(e->counts[0], 5);
    ck_assert_float_eq(e->counts[1], 6);
    ck_assert_float_eq(e->counts[2], 0);
    ck_assert_float_gt(e->sums[IN], 0);
    ck_assert_float_eq(e->sums[2 * IN], 0);
    bise_imatrix_fini(&m);
    bise_collector_free(c);
}
END_TEST

START_TEST(the_head_is_not_collected)
{
    static float x[T * IN];
    bise_collector *c = NULL;
    bise_imatrix m = { 0 };
    ck_ok(bise_collector_new(&c, &config, NULL, &err));
    const bise_role head = { BISE_ROLE_HEAD, -1, -1 };
    ck_ok(bise_collector_tap(c, head, x, T, IN, &err));
    ck_ok(bise_collector_take(c, &m, &err));
    ck_assert_uint_eq(m.n, 0);
    bise_imatrix_fini(&m);
    bise_collector_free(c);
}
END_TEST

START_TEST(a_bad_activation_names_layer_tensor_and_token)
{
    static float x[T * IN];
    bise_collector *c = NULL;
    ck_ok(bise_collector_new(&c, &config, NULL, &err));
    const bise_role role = { BISE_ROLE_V, 1, -1 };
    fill(x, 0);
    x[3 * IN + 17] = NAN;
    bise_collector_at(c, 1000);
    ck_fails(bise_collector_tap(c, role, x, T, IN, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, "blk.1.attn_v.weight");
    ck_assert_ptr_nonnull(strstr(err.text, "layer 1"));
    ck_assert_ptr_nonnull(strstr(err.text, "token 1003"));
    ck_assert_ptr_nonnull(strstr(err.text, "column 17"));
    ck_assert_ptr_nonnull(strstr(err.text, "NaN"));
    x[3 * IN + 17] = -INFINITY;
    ck_fails(bise_collector_tap(c, role, x, T, IN, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "infinite"));
    bise_collector_free(c);
}
END_TEST

START_TEST(taking_adds_to_an_earlier_part)
{
    static float x[T * IN];
    bise_collector *a = NULL, *b = NULL, *both = NULL;
    bise_imatrix parts = { 0 }, whole = { 0 };
    const bise_role role = { BISE_ROLE_UP, 0, -1 };
    ck_ok(bise_collector_new(&a, &config, NULL, &err));
    ck_ok(bise_collector_new(&b, &config, NULL, &err));
    ck_ok(bise_collector_new(&both, &config, NULL, &err));
    fill(x, 1);
    ck_ok(bise_collector_tap(a, role, x, T, IN, &err));
    ck_ok(bise_collector_tap(both, role, x, T, IN, &err));
    fill(x, 2);
    ck_ok(bise_collector_tap(b, role, x, T, IN, &err));
    ck_ok(bise_collector_tap(both, role, x, T, IN, &err));
    ck_ok(bise_collector_take(a, &parts, &err));
    ck_ok(bise_collector_take(b, &parts, &err));
    ck_ok(bise_collector_take(both, &whole, &err));
    ck_assert_uint_eq(parts.n, 1);
    ck_assert_float_eq(parts.entries[0].counts[0], 2 * T);
    for (int i = 0; i < IN; i++)
        ck_assert_float_eq_tol(parts.entries[0].sums[i],
                               whole.entries[0].sums[i], 1e-5);
    /* another model's columns do not fit */
    bise_imatrix other = { 0 };
    ck_assert_ptr_nonnull(bise_imatrix_add(&other, "blk.0.ffn_up.weight", 7,
                                           1));
    ck_fails(bise_collector_take(a, &other, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, "blk.0.ffn_up.weight");
    bise_imatrix_fini(&other);
    bise_imatrix_fini(&parts);
    bise_imatrix_fini(&whole);
    bise_collector_free(a);
    bise_collector_free(b);
    bise_collector_free(both);
}
END_TEST

START_TEST(columns_may_not_change)
{
    static float x[T * IN];
    bise_collector *c = NULL;
    ck_ok(bise_collector_new(&c, &config, NULL, &err));
    const bise_role role = { BISE_ROLE_O, 0, -1 };
    ck_ok(bise_collector_tap(c, role, x, T, IN, &err));
    ck_fails(bise_collector_tap(c, role, x, T, IN - 1, &err), BISE_EINVAL);
    bise_collector_free(c);
    bise_collector_free(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("imatrix");
    TCase *t = tcase_create("files");
    tcase_set_timeout(t, 60);   /* saving syncs: slow on a busy disk */
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, gguf_round_trips);
    tcase_add_test(t, gguf_has_the_layout_of_llama_imatrix);
    tcase_add_test(t, dat_round_trips_the_weights);
    tcase_add_test(t, dat_bytes_are_those_of_the_format);
    tcase_add_test(t, weights_are_means_and_one_where_nothing_came);
    tcase_add_test(t, every_truncation_of_gguf_is_refused);
    tcase_add_test(t, every_truncation_of_dat_is_refused_or_lacks_the_trailer);
    tcase_add_loop_test(t, wrong_fields_of_dat_are_named, 0,
                        (int)(sizeof wrong / sizeof *wrong));
    tcase_add_loop_test(t, gguf_without_a_key_is_no_imatrix, 0, 3);
    tcase_add_test(t, gguf_pairs_must_fit);
    tcase_add_test(t, sizes_that_overflow_are_refused);
    tcase_add_test(t, an_existing_file_is_kept);
    tcase_add_test(t, reads_a_file_of_llama_imatrix);
    suite_add_tcase(s, t);
    t = tcase_create("collecting");
    tcase_add_test(t, sums_are_exact_and_do_not_depend_on_threads);
    tcase_add_test(t, experts_share_an_entry_with_a_slice_each);
    tcase_add_test(t, the_head_is_not_collected);
    tcase_add_test(t, a_bad_activation_names_layer_tensor_and_token);
    tcase_add_test(t, taking_adds_to_an_earlier_part);
    tcase_add_test(t, columns_may_not_change);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
