/* check_trainer.c - the optimizer step against 24 steps of PEFT and torch, and
 * what must hold around it: any split into micro-batches, any number of
 * threads, and saving and restoring between steps give the same adapter.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "finetune/trainer.h"
#include "finetune/trainstate.h"
#include "formats/safetensors.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"
enum { STEPS = 24, T = 48, IN = T - 1, ROWS = 4 };

static bise_error err;

static const char *const cases[2][2] = {
    { "ministral3", GOLDEN "models/ministral3" },
    { "window", GOLDEN "models/mistral-window" },
};

/* A model with its adapter, graph and trainer, and the batches of a case. */
typedef struct fixture {
    bise_checkpoint base;
    bise_lora lora;
    bise_lora *loras[1];
    bise_graph *graph;
    bise_pool *pool;
    bise_trainer trainer;
    bise_st batches;
    bise_json *steps;
} fixture;

static void join(char out[512], const char *name, const char *file)
{
    snprintf(out, 512, GOLDEN "train/%s/%s", name, file);
}

static void open_case(fixture *f, int i, int threads)
{
    char path[512];
    memset(f, 0, sizeof *f);
    ck_ok(bise_pool_new(&f->pool, threads, &err));
    ck_ok(bise_checkpoint_open(&f->base, cases[i][1], NULL, &err));
    join(path, cases[i][0], "adapter-start");
    ck_ok(bise_lora_load(&f->lora, path, &f->base, &err));
    ck_ok(bise_lora_train(&f->lora, &err));
    f->loras[0] = &f->lora;
    const bise_graph_options go = {
        .max_tokens = ROWS * IN, .max_seq = IN, .train = true,
        .checkpointing = BISE_CKPT_OFF, .loras = f->loras, .n_loras = 1,
        .pool = f->pool };
    ck_ok(bise_graph_new(&f->graph, &f->base, &go, &err));
    const bise_trainer_options o = {
        .lora = &f->lora, .graph = f->graph, .clip = 0.5,
        .optimizer = { .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8,
                       .weight_decay = 0.01, .pool = f->pool },
        .schedule = { .lr = 2e-3, .lr_min = 0.1, .steps = STEPS,
                      .warmup = 4 } };
    ck_ok(bise_trainer_init(&f->trainer, &o, &err));
    join(path, cases[i][0], "batches.safetensors");
    ck_ok(bise_st_open(&f->batches, path, &err));
    join(path, cases[i][0], "steps.json");
    ck_ok(bise_json_load(&f->steps, path, &err));
}

static void close_case(fixture *f)
{
    bise_trainer_fini(&f->trainer);
    bise_graph_free(f->graph);
    bise_lora_fini(&f->lora);
    bise_checkpoint_close(&f->base);
    bise_st_close(&f->batches);
    bise_json_free(f->steps);
    bise_pool_free(f->pool);
}

/* Element of an int64 tensor of a file. */
static int32_t element(const bise_st *st, const char *name, int at)
{
    const bise_tensor *t = bise_st_find(st, name);
    ck_assert_ptr_nonnull(t);
    return (int32_t)bise_load_le64((const uint8_t *)t->data + 8 * at);
}

/* One step of the case in micro-batches of rows sequences each. */
static void step(fixture *f, int s, int rows, bise_step_report *r)
{
    int32_t ids[ROWS * IN], targets[ROWS * IN], seg[ROWS + 1];
    bise_trainer_begin(&f->trainer);
    for (int first = 0; first < ROWS; first += rows) {
        for (int k = 0; k < rows * IN; k++) {
            const int at = (s * ROWS + first + k / IN) * T + k % IN;
            const int32_t y = element(&f->batches, "labels", at + 1);
            ids[k] = element(&f->batches, "input_ids", at);
            targets[k] = y < 0 ? -1 : y;
        }
        for (int k = 0; k <= rows; k++)
            seg[k] = k * IN;
        const bise_batch b = { .ids = ids, .seg = seg, .T = rows * IN,
                               .n_seg = rows, .targets = targets };
        ck_ok(bise_trainer_add(&f->trainer, &b, &err));
    }
    ck_ok(bise_trainer_finish(&f->trainer, r, &err));
    f->trainer.state.cursor.pack++;
}

static double golden(const fixture *f, int s, const char *key)
{
    return bise_json_number(bise_json_get(bise_json_at(f->steps, (size_t)s),
                                          key), NAN);
}

/* Largest difference to the golden adapter, relative to its largest entry. */
static double adapter_error(const fixture *f, int i)
{
    char dir[64], path[512];
    bise_st got, want;
    double worst = 0, largest = 0;
    snprintf(dir, sizeof dir, "/tmp/bise-trainer-%ld", (long)getpid());
    ck_ok(bise_mkdir(dir, &err));
    ck_ok(bise_lora_save_peft(&f->lora, &f->base, "base", dir, &err));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    ck_ok(bise_st_open(&got, path, &err));
    join(path, cases[i][0], "adapter-end/adapter_model.safetensors");
    ck_ok(bise_st_open(&want, path, &err));
    ck_assert_uint_eq(got.n_tensors, want.n_tensors);
    for (size_t k = 0; k < want.n_tensors; k++) {
        const bise_tensor *w = &want.tensors[k];
        const bise_tensor *g = bise_st_find(&got, w->name);
        ck_assert_msg(g != NULL, "'%s' is missing", w->name);
        ck_assert_uint_eq(g->bytes, w->bytes);
        for (uint64_t n = 0; n < bise_tensor_count(w); n++) {
            const float a = ((const float *)g->data)[n];
            const float b = ((const float *)w->data)[n];
            worst = fmax(worst, fabs((double)a - b));
            largest = fmax(largest, fabs((double)b));
        }
    }
    bise_st_close(&got);
    bise_st_close(&want);
    bise_remove_tree(dir);
    return worst / largest;
}

START_TEST(training_follows_peft)
{
    fixture f;
    open_case(&f, _i, 2);
    for (int s = 0; s < STEPS; s++) {
        bise_step_report r;
        step(&f, s, 2, &r);
        ck_assert_double_eq_tol(r.lr, golden(&f, s, "lr"), 1e-12);
        ck_assert_double_eq_tol(r.loss, golden(&f, s, "loss"), 1e-4);
        const double norm = golden(&f, s, "grad_norm");
        ck_assert_double_eq_tol(r.grad_norm, norm, 1e-3 * norm);
        ck_assert_double_eq((double)r.supervised, golden(&f, s, "supervised"));
    }
    const double e = adapter_error(&f, _i);
    ck_assert_msg(e < 1e-3, "adapter differs by %g", e);
    close_case(&f);
}
END_TEST

/* Values after some steps, copied (bise_free). */
static float *train_values(int threads, int rows, int steps, size_t *n)
{
    fixture f;
    bise_step_report r;
    open_case(&f, 0, threads);
    for (int s = 0; s < steps; s++)
        step(&f, s, rows, &r);
    *n = f.lora.n_values;
    float *copy = bise_alloc_array(*n, sizeof *copy);
    memcpy(copy, f.lora.values, *n * sizeof *copy);
    close_case(&f);
    return copy;
}

static const int thread_counts[] = { 2, 5 };

START_TEST(threads_change_nothing)
{
    size_t n, m;
    float *a = train_values(1, 4, 5, &n);
    float *b = train_values(thread_counts[_i], 4, 5, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(a, b, n * sizeof *a);
    bise_free(a);
    bise_free(b);
}
END_TEST

/* Sums of gradients are divided once: one, two or four passes agree up to the
 * rounding of their sums. */
START_TEST(accumulation_changes_only_rounding)
{
    size_t n, m;
    float *a = train_values(2, 4, 3, &n);
    float *b = train_values(2, _i, 3, &m);
    for (size_t i = 0; i < n; i++)
        ck_assert_float_eq_tol(a[i], b[i], 2e-4f);
    bise_free(a);
    bise_free(b);
}
END_TEST

static void fingerprint(bise_fingerprint *o, bise_settings *s, fixture *f)
{
    memset(o, 0, sizeof *o);
    memset(s, 0, sizeof *s);
    ck_ok(bise_settings_resolve(s, &err));
    ck_ok(bise_base_digest(o->base, &f->base, &err));
    snprintf(o->data, sizeof o->data, "%064d", 7);
    o->settings = s;
}

/* Save after 3 of 7 steps, restore into a fresh trainer, finish: equal to the
 * uninterrupted run byte for byte. */
START_TEST(a_restored_run_is_the_same_run)
{
    fixture f;
    bise_fingerprint origin;
    bise_settings settings;
    bise_step_report r;
    char dir[64], at[128];
    char *path;
    uint64_t newest;
    size_t n;
    float *want = train_values(2, 2, 7, &n);
    snprintf(dir, sizeof dir, "/tmp/bise-state-%ld", (long)getpid());
    bise_remove_tree(dir);
    open_case(&f, 0, 2);
    fingerprint(&origin, &settings, &f);
    for (int s = 0; s < 3; s++) {
        step(&f, s, 2, &r);
        snprintf(at, sizeof at, "%s/%d", dir, s + 1);
        ck_ok(bise_trainstate_save(&f.trainer, &f.base, &origin, at, &err));
    }
    close_case(&f);
    /* A folder that was never finished must not count. */
    snprintf(at, sizeof at, "%s/9.part", dir);
    ck_ok(bise_mkdir(at, &err));
    ck_ok(bise_trainstate_prune(dir, 2, &err));
    snprintf(at, sizeof at, "%s/1", dir);
    ck_assert(!bise_file_exists(at));
    ck_ok(bise_trainstate_latest(&path, &newest, dir, &err));
    ck_assert_uint_eq(newest, 3);
    open_case(&f, 0, 1);
    ck_ok(bise_trainstate_load(&f.trainer, &origin, path, &err));
    ck_assert_uint_eq(f.trainer.state.step, 3);
    ck_assert_uint_eq(f.trainer.state.cursor.pack, 3);
    ck_assert_double_eq(f.trainer.state.loss_last, r.loss);
    for (int s = 3; s < 7; s++)
        step(&f, s, 2, &r);
    ck_assert_mem_eq(f.lora.values, want, n * sizeof *want);
    close_case(&f);
    bise_settings_fini(&settings);
    bise_free(path);
    bise_free(want);
    bise_remove_tree(dir);
}
END_TEST

/* Another base, other data, another setting; a cut file; a missing tensor. */
START_TEST(a_foreign_checkpoint_is_refused)
{
    fixture f;
    bise_fingerprint origin;
    bise_settings settings, other = { 0 };
    char dir[64], at[128];
    snprintf(dir, sizeof dir, "/tmp/bise-foreign-%ld", (long)getpid());
    bise_remove_tree(dir);
    open_case(&f, 0, 1);
    fingerprint(&origin, &settings, &f);
    ck_ok(bise_trainstate_save(&f.trainer, &f.base, &origin, dir, &err));
    ck_ok(bise_trainstate_load(&f.trainer, &origin, dir, &err));
    bise_fingerprint changed = origin;
    changed.base[0] ^= 1;
    ck_fails(bise_trainstate_load(&f.trainer, &changed, dir, &err),
             BISE_EINVAL);
    changed = origin;
    changed.data[3] = 'x';
    ck_fails(bise_trainstate_load(&f.trainer, &changed, dir, &err),
             BISE_EINVAL);
    ck_ok(bise_settings_set(&other, "lr", "1e-3", &err));
    ck_ok(bise_settings_set(&other, "keep", "9", &err));
    ck_ok(bise_settings_resolve(&other, &err));
    changed = origin;
    changed.settings = &other;
    ck_fails(bise_trainstate_load(&f.trainer, &changed, dir, &err),
             BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'lr'"));
    snprintf(at, sizeof at, "%s/optimizer.safetensors", dir);
    ck_assert_int_eq(truncate(at, (off_t)bise_file_size(at) - 4), 0);
    ck_fails(bise_trainstate_load(&f.trainer, &origin, dir, &err),
             BISE_EFORMAT);
    ck_assert_int_eq(unlink(at), 0);
    ck_fails(bise_trainstate_load(&f.trainer, &origin, dir, &err), BISE_EIO);
    close_case(&f);
    bise_settings_fini(&settings);
    bise_settings_fini(&other);
    bise_remove_tree(dir);
}
END_TEST

/* A gradient that is not finite changes nothing but the counters, and too many
 * in a row end the run. */
START_TEST(what_is_not_finite_is_left_out)
{
    fixture f;
    bise_step_report r;
    open_case(&f, 0, 1);
    step(&f, 0, 4, &r);
    float before[64];
    memcpy(before, f.lora.values, sizeof before);
    for (int k = 1; k <= BISE_TRAINER_SKIPS_MAX; k++) {
        bise_trainer_begin(&f.trainer);
        f.lora.grads[5] = INFINITY;
        f.trainer.supervised = 3;
        if (k == BISE_TRAINER_SKIPS_MAX) {
            ck_fails(bise_trainer_finish(&f.trainer, &r, &err), BISE_EFORMAT);
            break;
        }
        ck_ok(bise_trainer_finish(&f.trainer, &r, &err));
        ck_assert(r.skipped);
        ck_assert_uint_eq(f.trainer.state.skipped, (uint64_t)k);
    }
    ck_assert_mem_eq(before, f.lora.values, sizeof before);
    close_case(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("trainer");
    TCase *t = tcase_create("golden");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, training_follows_peft, 0, 2);
    suite_add_tcase(s, t);
    t = tcase_create("step");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, threads_change_nothing, 0, 2);
    tcase_add_loop_test(t, accumulation_changes_only_rounding, 1, 3);
    tcase_add_test(t, what_is_not_finite_is_left_out);
    suite_add_tcase(s, t);
    t = tcase_create("state");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_restored_run_is_the_same_run);
    tcase_add_test(t, a_foreign_checkpoint_is_refused);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
