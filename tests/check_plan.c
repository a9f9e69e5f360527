/* check_plan.c - tests of pipeline/plan.c and run.c: layout of one and many
 * files, equal bytes for any number of threads, refusal of bad weights,
 * cancelling, and that a failed run leaves nothing.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "pipeline/plan.h"
#include "pipeline/run.h"
#include "tests/check_main.h"

#define ROWS 600
#define COLS 512

static bise_error err;
static char dir[] = "/tmp/bise-plan-XXXXXX";
static char path[128];
static float *matrix;

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out.gguf", dir);
    matrix = bise_alloc_array(ROWS * COLS, sizeof *matrix);
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        matrix[i] = bise_rng_f32(1, 0, i) - 0.5f;
}

static void teardown(void)
{
    bise_free(matrix);
    bise_remove_tree(dir);
}

/* n matrices of one type. */
static void make_plan(bise_plan *p, bise_plan_kind kind, int n, bise_dtype t)
{
    bise_plan_init(p, kind);
    if (kind == BISE_PLAN_GGUF)
        bise_gguf_set_str(&p->meta, "general.architecture", "test");
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.w.weight", i);
        const bise_plan_tensor x = {
            .name = name, .dtype = t, .n_dims = 2, .dims = { ROWS, COLS },
            .role = { BISE_ROLE_OPAQUE, -1, -1 },
            .stream = bise_stream_memory(&p->arena, matrix, ROWS, COLS),
        };
        ck_ok(bise_plan_add(p, &x, &err));
    }
}

static bise_status run_with(bise_plan *p, const char *out, int threads,
                            bool measure, bise_run_result *r)
{
    bise_pool *pool = NULL;
    bise_error_init(&err);
    ck_assert_int_eq(bise_pool_new(&pool, threads, &err), BISE_OK);
    const bise_run_options o = { .path = out, .stage = "test", .pool = pool,
                                 .measure = measure };
    const bise_status s = bise_run(p, &o, r, &err);
    bise_pool_free(pool);
    return s;
}

static bool dir_is_empty(void)
{
    char **names = NULL;
    size_t n = 1;
    ck_ok(bise_dir_list(&names, &n, dir, &err));
    bise_free(names);
    return n == 0;
}

START_TEST(threads_do_not_change_the_file)
{
    static const int threads[] = { 1, 2, 3, 8 };
    bise_str first = { 0 };
    for (size_t i = 0; i < 4; i++) {
        bise_plan p;
        bise_run_result r = { 0 };
        char name[160];
        snprintf(name, sizeof name, "%s/t%d.gguf", dir, threads[i]);
        make_plan(&p, BISE_PLAN_GGUF, 4, BISE_DTYPE_Q4_K);
        ck_ok(run_with(&p, name, threads[i], true, &r));
        bise_str data = { 0 };
        ck_ok(bise_file_read(&data, name, &err));
        ck_assert_uint_eq(data.len, bise_plan_bytes_out(&p));
        if (i == 0)
            first = data;
        else {
            ck_assert_uint_eq(data.len, first.len);
            ck_assert_mem_eq(data.data, first.data, first.len);
            bise_str_fini(&data);
        }
        ck_assert(bise_run_rmse(&r.stats[0]) > 1e-3);
        ck_assert(bise_run_rmse(&r.stats[0]) < 0.05);
        bise_run_result_fini(&r);
        bise_plan_fini(&p);
    }
    bise_str_fini(&first);
}
END_TEST

START_TEST(gguf_reads_back)
{
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 3, BISE_DTYPE_F32);
    ck_ok(run_with(&p, path, 2, false, &r));
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, path, &err));
    ck_assert_uint_eq(g.n_tensors, 3);
    const bise_tensor *t = bise_gguf_find(&g, "blk.1.w.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert_uint_eq(t->dims[0], ROWS);
    ck_assert_mem_eq(t->data, matrix, ROWS * COLS * sizeof *matrix);
    bise_gguf_close(&g);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(splits_hold_every_tensor_once)
{
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 5, BISE_DTYPE_F32);
    p.split_bytes = 2 * ROWS * COLS * sizeof *matrix;
    ck_ok(run_with(&p, path, 2, false, &r));
    ck_assert_uint_eq(r.n_outputs, 3);
    size_t tensors = 0;
    for (int i = 0; i < 3; i++) {
        char name[160];
        bise_gguf g;
        snprintf(name, sizeof name, "%s/out-%05d-of-00003.gguf", dir, i + 1);
        ck_assert_str_eq(r.outputs[i].path, name);
        ck_ok(bise_gguf_open(&g, name, &err));
        ck_assert_int_eq(bise_gguf_int(&g.meta, "split.no", -1), i);
        ck_assert_int_eq(bise_gguf_int(&g.meta, "split.count", -1), 3);
        ck_assert_int_eq(bise_gguf_int(&g.meta, "split.tensors.count", -1), 5);
        ck_assert_int_eq(bise_gguf_get(&g.meta, "general.architecture") != NULL,
                         i == 0);
        tensors += g.n_tensors;
        bise_gguf_close(&g);
    }
    ck_assert_uint_eq(tensors, 5);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(shards_have_an_index)
{
    bise_plan p;
    bise_run_result r = { 0 };
    char out[160], name[200];
    snprintf(out, sizeof out, "%s/model", dir);
    make_plan(&p, BISE_PLAN_SAFETENSORS, 4, BISE_DTYPE_BF16);
    p.split_bytes = 3 * ROWS * COLS * 2;
    ck_ok(bise_plan_add_text(&p, "config.json", "{}\n", 3, &err));
    ck_ok(run_with(&p, out, 2, false, &r));
    ck_assert_uint_eq(r.n_outputs, 2);
    snprintf(name, sizeof name, "%s/model.safetensors.index.json", out);
    bise_json *index = NULL;
    ck_ok(bise_json_load(&index, name, &err));
    ck_assert_str_eq(bise_json_string(bise_json_get(bise_json_get(
        index, "weight_map"), "blk.3.w.weight"), NULL),
        "model-00002-of-00002.safetensors");
    ck_assert_double_eq(bise_json_number(bise_json_get(bise_json_get(
        index, "metadata"), "total_size"), 0), 4.0 * ROWS * COLS * 2);
    bise_json_free(index);
    bise_st st;
    snprintf(name, sizeof name, "%s/model-00002-of-00002.safetensors", out);
    ck_ok(bise_st_open(&st, name, &err));
    ck_assert_uint_eq(st.n_tensors, 1);
    bise_st_close(&st);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(bad_weights_are_named_and_nothing_is_left)
{
    static const int threads[] = { 1, 4 };
    matrix[300 * COLS + 7] = NAN;
    matrix[500 * COLS + 1] = INFINITY;
    for (int i = 0; i < 2; i++) {
        bise_plan p;
        bise_run_result r = { 0 };
        make_plan(&p, BISE_PLAN_GGUF, 2, BISE_DTYPE_Q8_0);
        ck_assert_int_eq(run_with(&p, path, threads[i], false, &r),
                         BISE_EFORMAT);
        ck_assert_str_eq(err.tensor, "blk.0.w.weight");
        ck_assert_ptr_nonnull(strstr(err.text, "row 300, column 7"));
        ck_assert_ptr_nonnull(strstr(err.text, "NaN"));
        ck_assert(dir_is_empty());
        bise_plan_fini(&p);
    }
}
END_TEST

START_TEST(float16_overflow_is_an_error)
{
    matrix[3] = 70000;
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 1, BISE_DTYPE_F16);
    ck_assert_int_eq(run_with(&p, path, 2, false, &r), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "overflow"));
    ck_assert(dir_is_empty());
    bise_plan_fini(&p);
}
END_TEST

START_TEST(copied_weights_are_checked_when_asked)
{
    matrix[9] = NAN;
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 1, BISE_DTYPE_F32);
    p.check_finite = true;
    ck_assert_int_eq(run_with(&p, path, 1, false, &r), BISE_EFORMAT);
    bise_plan_fini(&p);
    make_plan(&p, BISE_PLAN_GGUF, 1, BISE_DTYPE_F32);
    ck_ok(run_with(&p, path, 1, false, &r));
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(cancel_leaves_nothing)
{
    static volatile sig_atomic_t cancel = 1;
    const bise_progress progress = { .cancel = &cancel };
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 2, BISE_DTYPE_Q4_K);
    const bise_run_options o = { .path = path, .stage = "test",
                                 .progress = &progress };
    ck_fails(bise_run(&p, &o, &r, &err), BISE_ECANCEL);
    ck_assert(dir_is_empty());
    bise_plan_fini(&p);
    snprintf(path, sizeof path, "%s/model", dir);
    make_plan(&p, BISE_PLAN_SAFETENSORS, 2, BISE_DTYPE_BF16);
    ck_fails(bise_run(&p, &o, &r, &err), BISE_ECANCEL);
    ck_assert(dir_is_empty());
    bise_plan_fini(&p);
}
END_TEST

START_TEST(an_existing_output_is_kept)
{
    ck_ok(bise_file_write(path, "mine", 4, &err));
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 1, BISE_DTYPE_F32);
    ck_assert_int_eq(run_with(&p, path, 1, false, &r), BISE_EIO);
    ck_assert_uint_eq(bise_file_size(path), 4);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(wrong_sizes_are_refused_before_writing)
{
    bise_plan p;
    bise_run_result r = { 0 };
    bise_plan_init(&p, BISE_PLAN_GGUF);
    bise_plan_tensor x = {
        .name = "w.weight", .dtype = BISE_DTYPE_F32, .n_dims = 2,
        .dims = { ROWS, COLS + 1 },
        .stream = bise_stream_memory(&p.arena, matrix, ROWS, COLS),
    };
    ck_fails(bise_plan_add(&p, &x, &err), BISE_EFORMAT);
    x.dims[1] = 100;
    x.dtype = BISE_DTYPE_Q4_K;
    x.stream = bise_stream_memory(&p.arena, matrix, ROWS, 100);
    ck_ok(bise_plan_add(&p, &x, &err));
    ck_assert_int_eq(run_with(&p, path, 1, false, &r), BISE_EUNSUPPORTED);
    ck_assert_str_eq(err.tensor, "w.weight");
    ck_assert(dir_is_empty());
    bise_plan_fini(&p);
}
END_TEST

START_TEST(memory_depends_on_threads_only)
{
    bise_plan a, b;
    make_plan(&a, BISE_PLAN_GGUF, 1, BISE_DTYPE_Q4_K);
    make_plan(&b, BISE_PLAN_GGUF, 50, BISE_DTYPE_Q4_K);
    ck_assert_uint_eq(bise_run_memory(&a, 4, false),
                      bise_run_memory(&b, 4, false));
    ck_assert_uint_lt(bise_run_memory(&b, 4, false), 8 << 20);
    bise_plan_fini(&a);
    bise_plan_fini(&b);
}
END_TEST

START_TEST(sizes_follow_from_types_and_shapes)
{
    bise_plan p;
    make_plan(&p, BISE_PLAN_GGUF, 2, BISE_DTYPE_Q4_K);
    ck_assert_uint_eq(bise_plan_weights(&p), 2 * ROWS * COLS);
    ck_assert_double_eq(bise_plan_bits(&p), 4.5);
    ck_assert_uint_eq(bise_plan_tensor_bytes(&p.tensors[0]),
                      ROWS * COLS / 256 * 144);
    ck_assert_uint_eq(bise_plan_bytes_in(&p), 0);       /* in memory */
    ck_assert_uint_eq(bise_plan_bytes_out(&p), 0);      /* no layout yet */
    ck_ok(bise_plan_layout(&p, &err));
    ck_assert_uint_gt(bise_plan_bytes_out(&p), 2 * ROWS * COLS / 256 * 144);
    ck_assert_ptr_eq(bise_plan_find(&p, "blk.1.w.weight"), &p.tensors[1]);
    ck_assert_ptr_null(bise_plan_find(&p, "blk.2.w.weight"));
    ck_assert(!bise_plan_is_raw(&p.tensors[0]));
    /* a layout may be made again after types changed */
    const uint64_t before = bise_plan_bytes_out(&p);
    p.tensors[0].dtype = BISE_DTYPE_F32;
    ck_assert(bise_plan_is_raw(&p.tensors[0]));
    ck_ok(bise_plan_layout(&p, &err));
    ck_assert_uint_gt(bise_plan_bytes_out(&p), before);
    ck_assert_uint_eq(p.n_files, 1);
    bise_plan_fini(&p);
    bise_plan_fini(&p);                         /* any state is fine */
}
END_TEST

START_TEST(offsets_point_at_the_data_of_each_tensor)
{
    bise_plan p;
    bise_run_result r = { 0 };
    make_plan(&p, BISE_PLAN_GGUF, 3, BISE_DTYPE_F32);
    ck_ok(run_with(&p, path, 2, false, &r));
    bise_str data = { 0 };
    ck_ok(bise_file_read(&data, path, &err));
    for (size_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(p.files[0].offsets[i] % BISE_GGUF_ALIGNMENT, 0);
        ck_assert_mem_eq(data.data + p.files[0].offsets[i], matrix,
                         ROWS * COLS * sizeof *matrix);
    }
    bise_str_fini(&data);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(side_files_are_written_with_their_folders)
{
    bise_plan p;
    bise_run_result r = { 0 };
    char out[160], name[200];
    snprintf(out, sizeof out, "%s/model", dir);
    make_plan(&p, BISE_PLAN_SAFETENSORS, 1, BISE_DTYPE_F16);
    ck_ok(bise_plan_add_text(&p, "a/b/c.txt", "x\0y", 3, &err));
    ck_ok(bise_plan_add_text(&p, "empty.txt", "", 0, &err));
    ck_ok(run_with(&p, out, 1, false, &r));
    bise_str text = { 0 };
    snprintf(name, sizeof name, "%s/a/b/c.txt", out);
    ck_ok(bise_file_read(&text, name, &err));
    ck_assert_uint_eq(text.len, 3);
    ck_assert_mem_eq(text.data, "x\0y", 3);
    bise_str_fini(&text);
    snprintf(name, sizeof name, "%s/empty.txt", out);
    ck_assert(bise_file_exists(name));
    ck_assert_uint_eq(bise_file_size(name), 0);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

/* An adapter that moves one row: the report counts it, whatever the threads. */
START_TEST(changed_elements_are_counted)
{
    float a[COLS], *b = bise_alloc_array(ROWS, sizeof *b);
    for (int i = 0; i < COLS; i++)
        a[i] = 1;
    b[7] = 1;                                   /* all other rows stay */
    const bise_lora_module m = { .r = 1, .in = COLS, .out = ROWS, .scale = 1,
                                 .a = a, .b = b };
    for (int threads = 1; threads <= 3; threads += 2) {
        bise_plan p;
        bise_run_result r = { 0 };
        char name[160];
        snprintf(name, sizeof name, "%s/c%d.gguf", dir, threads);
        bise_plan_init(&p, BISE_PLAN_GGUF);
        const bise_plan_tensor x = {
            .name = "w.weight", .dtype = BISE_DTYPE_BF16, .n_dims = 2,
            .dims = { ROWS, COLS }, .role = { BISE_ROLE_OPAQUE, -1, -1 },
            .stream = bise_stream_lora(&p.arena, bise_stream_memory(
                &p.arena, matrix, ROWS, COLS), &m),
        };
        ck_ok(bise_plan_add(&p, &x, &err));
        ck_assert_ptr_nonnull(p.tensors[0].base);
        ck_ok(run_with(&p, name, threads, true, &r));
        ck_assert_uint_eq(r.n_stats, 1);
        ck_assert_uint_eq(r.stats[0].changed, COLS);
        ck_assert_uint_eq(r.stats[0].weights, ROWS * COLS);
        ck_assert_double_eq_tol(r.stats[0].delta_square, COLS, 1e-3);
        ck_assert_double_gt(r.stats[0].base_square, 1);
        bise_run_result_fini(&r);
        bise_plan_fini(&p);
    }
    bise_free(b);
}
END_TEST

START_TEST(values_lost_in_float16_are_counted)
{
    bise_plan p;
    bise_run_result r = { 0 };
    for (int i = 0; i < 5; i++)
        matrix[1000 * i] = 1e-9f;               /* below half of 2^-24 */
    matrix[1] = 0;                              /* zero is not lost */
    make_plan(&p, BISE_PLAN_GGUF, 1, BISE_DTYPE_F16);
    ck_ok(run_with(&p, path, 2, true, &r));
    ck_assert_uint_eq(r.stats[0].flushed, 5);
    ck_assert_uint_eq(r.stats[0].overflowed, 0);
    ck_assert_double_gt(bise_run_rmse(&r.stats[0]), 0);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
}
END_TEST

/* Reports of a run: they never go back and never pass the total. */
typedef struct seen {
    uint64_t last, total;
    int calls;
    bool wrong;
} seen;

static void note(void *ctx, const char *stage, uint64_t done, uint64_t total,
                 const char *unit, const char *remark)
{
    seen *s = ctx;
    (void)remark;
    s->wrong |= done < s->last || done > total || strcmp(stage, "test") != 0 ||
                strcmp(unit, "bytes") != 0;
    s->last = done;
    s->total = total;
    s->calls++;
}

START_TEST(progress_rises_to_the_total)
{
    seen s = { 0 };
    const bise_progress progress = { .report = note, .ctx = &s };
    bise_pool *pool = NULL;
    bise_plan p;
    bise_run_result r = { 0 };
    ck_ok(bise_pool_new(&pool, 3, &err));
    make_plan(&p, BISE_PLAN_GGUF, 6, BISE_DTYPE_Q8_0);
    const bise_run_options o = { .path = path, .stage = "test", .pool = pool,
                                 .progress = &progress };
    ck_ok(bise_run(&p, &o, &r, &err));
    ck_assert(!s.wrong);
    ck_assert_int_ge(s.calls, 2);
    ck_assert_uint_eq(s.last, s.total);
    ck_assert_uint_eq(s.total, 6 * (uint64_t)ROWS * COLS / 32 * 34);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_pool_free(pool);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("run");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, threads_do_not_change_the_file);
    tcase_add_test(t, gguf_reads_back);
    tcase_add_test(t, splits_hold_every_tensor_once);
    tcase_add_test(t, shards_have_an_index);
    tcase_add_test(t, bad_weights_are_named_and_nothing_is_left);
    tcase_add_test(t, float16_overflow_is_an_error);
    tcase_add_test(t, copied_weights_are_checked_when_asked);
    tcase_add_test(t, cancel_leaves_nothing);
    tcase_add_test(t, an_existing_output_is_kept);
    tcase_add_test(t, wrong_sizes_are_refused_before_writing);
    tcase_add_test(t, memory_depends_on_threads_only);
    tcase_add_test(t, sizes_follow_from_types_and_shapes);
    tcase_add_test(t, offsets_point_at_the_data_of_each_tensor);
    tcase_add_test(t, side_files_are_written_with_their_folders);
    tcase_add_test(t, changed_elements_are_counted);
    tcase_add_test(t, values_lost_in_float16_are_counted);
    tcase_add_test(t, progress_rises_to_the_total);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
