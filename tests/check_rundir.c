/* check_rundir.c - the output directory and what a checkpoint in it is: claims,
 * locks, names, the model card, and every way in which a saved state can be
 * broken.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "finetune/rundir.h"
#include "finetune/trainstate.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"

static bise_error err;
static char dir[64];

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/bise-rundir-%ld", (long)getpid());
    bise_remove_tree(dir);
}

static void tear_down(void)
{
    bise_remove_tree(dir);
}

/* A small file DIR/NAME. */
static void put_file(const char *name)
{
    char path[192];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_ok(bise_file_write(path, "x", 1, &err));
}

static bool has_file(const char *name)
{
    char path[192];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return bise_file_exists(path);
}

START_TEST(a_new_directory_is_made)
{
    bise_rundir r;
    ck_ok(bise_rundir_open(&r, dir, _i == 1, _i == 2, &err));
    ck_assert(has_file("checkpoints"));
    ck_assert_str_eq(r.dir, dir);
    char *step = bise_rundir_step(&r, 12345678901ull);
    ck_assert(bise_ends_with(step, "/checkpoints/12345678901"));
    bise_free(step);
    bise_rundir_close(&r);
    ck_assert_ptr_null(r.dir);
    bise_rundir_close(&r);          /* twice is fine */
}
END_TEST

START_TEST(an_empty_directory_is_taken)
{
    bise_rundir r;
    ck_ok(bise_mkdir(dir, &err));
    ck_ok(bise_rundir_open(&r, dir, false, false, &err));
    bise_rundir_close(&r);
}
END_TEST

/* Every product of an earlier run goes under --force, nothing else does. */
START_TEST(force_removes_products_only)
{
    static const char *const products[] = {
        "adapter_model.safetensors", "adapter_config.json", "README.md",
        "report.html", "loss.svg", "log.jsonl", "run.yaml",
        "checkpoints/5/trainer_state.json" };
    static const char *const others[] = { "notes.txt", "data/rows.jsonl",
                                          "run.yaml.old" };
    bise_rundir r;
    char path[192];
    snprintf(path, sizeof path, "%s/checkpoints/5", dir);
    ck_ok(bise_mkdir(path, &err));
    snprintf(path, sizeof path, "%s/data", dir);
    ck_ok(bise_mkdir(path, &err));
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        put_file(products[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        put_file(others[i]);
    ck_fails(bise_rundir_open(&r, dir, false, false, &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "exists and is not empty"));
    ck_assert_ptr_nonnull(strstr(err.hint, "--resume"));
    ck_assert_ptr_nonnull(strstr(err.hint, "--force"));
    ck_ok(bise_rundir_open(&r, dir, true, false, &err));
    bise_rundir_close(&r);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        ck_assert_msg(has_file(products[i]), "--resume removed %s",
                      products[i]);
    ck_ok(bise_rundir_open(&r, dir, false, true, &err));
    bise_rundir_close(&r);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        ck_assert_msg(!has_file(products[i]), "%s is left", products[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        ck_assert_msg(has_file(others[i]), "%s is gone", others[i]);
}
END_TEST

START_TEST(a_lock_keeps_others_out)
{
    bise_rundir a, b;
    ck_ok(bise_rundir_open(&a, dir, false, false, &err));
    ck_fails(bise_rundir_open(&b, dir, true, false, &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "another run"));
    bise_rundir_close(&a);
    ck_ok(bise_rundir_open(&b, dir, true, false, &err));
    bise_rundir_close(&b);
}
END_TEST

/* No allocation that fails leaves anything behind but the directory. */
START_TEST(no_memory_is_reported)
{
    bise_rundir r;
    bise_alloc_fail_after((uint64_t)_i);
    bise_error_init(&err);
    const bise_status s = bise_rundir_open(&r, dir, false, false, &err);
    bise_alloc_fail_after(0);
    ck_assert(s == BISE_OK || s == BISE_ENOMEM);
    if (s == BISE_OK)
        bise_rundir_close(&r);
    else
        ck_assert_ptr_null(r.dir);
}
END_TEST

/* Names in a checkpoints folder, and which step is the newest whole one. */
static const struct {
    const char *names[5];
    int64_t newest;        /* -1: none */
} folders[] = {
    { { NULL }, -1 },
    { { "5", NULL }, 5 },
    { { "5", "40", "9", NULL }, 40 },
    { { "5", "40.part", NULL }, 5 },
    { { "7.part", "latest", "-3", "12a", NULL }, -1 },
    { { "100", "x", "0", NULL }, 100 },
};

START_TEST(the_newest_whole_checkpoint)
{
    char *path = NULL;
    uint64_t step = 0;
    char at[192];
    if (_i)                        /* the first: no folder at all */
        ck_ok(bise_mkdir(dir, &err));
    for (int i = 0; folders[_i].names[i]; i++) {
        snprintf(at, sizeof at, "%s/%s", dir, folders[_i].names[i]);
        ck_ok(bise_mkdir(at, &err));
    }
    ck_ok(bise_trainstate_latest(&path, &step, dir, &err));
    ck_assert_int_eq(path != NULL, folders[_i].newest >= 0);
    if (path)
        ck_assert_uint_eq(step, (uint64_t)folders[_i].newest);
    bise_free(path);
}
END_TEST

START_TEST(pruning_keeps_the_newest)
{
    static const char *const names[] = { "1", "20", "3", "100", "9.part",
                                         "mine" };
    char at[192];
    for (size_t i = 0; i < 6; i++) {
        snprintf(at, sizeof at, "%s/%s", dir, names[i]);
        ck_ok(bise_mkdir(at, &err));
    }
    ck_ok(bise_trainstate_prune(dir, 99, &err));
    ck_assert(has_file("1"));
    ck_assert(!has_file("9.part"));
    ck_ok(bise_trainstate_prune(dir, 2, &err));
    ck_assert(!has_file("1") && !has_file("3"));
    ck_assert(has_file("20") && has_file("100") && has_file("mine"));
}
END_TEST

/* A trainer with an adapter but no graph: enough for its state. */
typedef struct holder {
    bise_checkpoint base;
    bise_lora lora;
    bise_trainer trainer;
    bise_settings settings;
    bise_fingerprint origin;
} holder;

static void open_holder(holder *h, bise_optimizer_kind kind)
{
    memset(h, 0, sizeof *h);
    ck_ok(bise_checkpoint_open(&h->base, GOLDEN "models/ministral3", NULL,
                               &err));
    ck_ok(bise_lora_load(&h->lora, GOLDEN "train/ministral3/adapter-start",
                         &h->base, &err));
    ck_ok(bise_lora_train(&h->lora, &err));
    const bise_trainer_options o = {
        .lora = &h->lora,
        .optimizer = { .kind = kind, .beta1 = 0.9, .beta2 = 0.99,
                       .eps = 1e-8 } };
    ck_ok(bise_trainer_init(&h->trainer, &o, &err));
    ck_ok(bise_settings_resolve(&h->settings, &err));
    ck_ok(bise_base_digest(h->origin.base, &h->base, &err));
    snprintf(h->origin.data, sizeof h->origin.data, "%064d", 1);
    h->origin.settings = &h->settings;
}

static void close_holder(holder *h)
{
    bise_trainer_fini(&h->trainer);
    bise_lora_fini(&h->lora);
    bise_checkpoint_close(&h->base);
    bise_settings_fini(&h->settings);
}

/* Every counter and every moment comes back, for each optimizer. */
START_TEST(the_state_comes_back_whole)
{
    holder h, other;
    open_holder(&h, (bise_optimizer_kind)_i);
    open_holder(&other, (bise_optimizer_kind)_i);
    for (size_t i = 0; i < h.lora.n_values; i++)
        h.lora.grads[i] = sinf((float)i);
    bise_optimizer_step(h.trainer.optimizer, h.lora.values, h.lora.grads, 1,
                        1e-2);
    h.trainer.state = (bise_train_state){
        .step = 41, .cursor = { 3, 17 }, .tokens = 1ull << 40,
        .supervised = 12345, .rows = 678, .skipped = 2, .seconds = 0.1,
        .loss_first = 1.0 / 3, .loss_last = 2e-300, .eval_first = NAN,
        .eval_last = NAN };
    ck_ok(bise_trainstate_save(&h.trainer, &h.base, &h.origin, dir, &err));
    ck_ok(bise_trainstate_load(&other.trainer, &h.origin, dir, &err));
    const bise_train_state *a = &h.trainer.state, *b = &other.trainer.state;
    ck_assert_uint_eq(a->step, b->step);
    ck_assert_uint_eq(a->cursor.epoch, b->cursor.epoch);
    ck_assert_uint_eq(a->cursor.pack, b->cursor.pack);
    ck_assert_uint_eq(a->tokens, b->tokens);
    ck_assert_uint_eq(a->supervised, b->supervised);
    ck_assert_uint_eq(a->rows, b->rows);
    ck_assert_uint_eq(a->skipped, b->skipped);
    ck_assert_double_eq(a->seconds, b->seconds);
    ck_assert_double_eq(a->loss_first, b->loss_first);
    ck_assert_double_eq(a->loss_last, b->loss_last);
    ck_assert(isnan(b->eval_first) && isnan(b->eval_last));
    ck_assert_mem_eq(h.lora.values, other.lora.values,
                     h.lora.n_values * sizeof(float));
    ck_assert_uint_eq(bise_optimizer_count(other.trainer.optimizer), 1);
    /* The next update is the same, so the moments are. */
    for (int k = 0; k < 2; k++) {
        holder *w = k ? &other : &h;
        bise_optimizer_step(w->trainer.optimizer, w->lora.values,
                            h.lora.grads, 0.5f, 1e-2);
    }
    ck_assert_mem_eq(h.lora.values, other.lora.values,
                     h.lora.n_values * sizeof(float));
    close_holder(&h);
    close_holder(&other);
}
END_TEST

/* key, JSON text that replaces its value (NULL removes it), status */
static const struct {
    const char *key, *value;
    bise_status status;
    const char *text;
} broken[] = {
    { "format", "2", BISE_EUNSUPPORTED, "format 2" },
    { "format", NULL, BISE_EFORMAT, "'format'" },
    { "step", "-1", BISE_EFORMAT, "'step'" },
    { "step", "1.5", BISE_EFORMAT, "'step'" },
    { "step", "\"many\"", BISE_EFORMAT, "'step'" },
    { "updates", NULL, BISE_EFORMAT, "'updates'" },
    { "cursor", "7", BISE_EFORMAT, "'epoch'" },
    { "cursor", "{\"epoch\": 1}", BISE_EFORMAT, "'pack'" },
    { "tokens", "null", BISE_EFORMAT, "'tokens'" },
    { "supervised_tokens", NULL, BISE_EFORMAT, "'supervised_tokens'" },
    { "rows", "[]", BISE_EFORMAT, "'rows'" },
    { "skipped_steps", NULL, BISE_EFORMAT, "'skipped_steps'" },
    { "base", "\"abc\"", BISE_EINVAL, "another base" },
    { "base", "5", BISE_EINVAL, "another base" },
    { "data", NULL, BISE_EINVAL, "other training data" },
    { "settings", NULL, BISE_EINVAL, "setting" },
    { "settings", "{\"lora-r\": 99}", BISE_EINVAL, "'lora-r'" },
};

/* A wrong field is refused by name and changes nothing in the trainer. */
START_TEST(a_broken_state_is_refused)
{
    holder h;
    char path[128];
    bise_json *o = NULL, *v = NULL;
    bise_str text = { 0 };
    open_holder(&h, BISE_OPTIMIZER_ADAMW);
    ck_ok(bise_trainstate_save(&h.trainer, &h.base, &h.origin, dir, &err));
    snprintf(path, sizeof path, "%s/trainer_state.json", dir);
    ck_ok(bise_json_load(&o, path, &err));
    bise_json_remove(o, broken[_i].key);
    if (broken[_i].value) {
        char wrapped[64];
        snprintf(wrapped, sizeof wrapped, "[%s]", broken[_i].value);
        ck_ok(bise_json_parse(&v, wrapped, strlen(wrapped), &err));
        (void)bise_json_set(o, broken[_i].key,
                            bise_json_copy(bise_json_at(v, 0)));
    }
    bise_json_dump(&text, o, 0, false);
    ck_ok(bise_file_write(path, text.data, text.len, &err));
    h.lora.values[0] = 77;
    h.trainer.state.step = 5;
    ck_fails(bise_trainstate_load(&h.trainer, &h.origin, dir, &err),
             broken[_i].status);
    ck_assert_msg(strstr(err.text, broken[_i].text) != NULL, "%s", err.text);
    ck_assert_str_eq(err.path, path);
    ck_assert_float_eq(h.lora.values[0], 77);
    ck_assert_uint_eq(h.trainer.state.step, 5);
    bise_str_fini(&text);
    bise_json_free(o);
    bise_json_free(v);
    close_holder(&h);
}
END_TEST

/* Every truncation of both files is an error, and nothing else happens. */
START_TEST(a_cut_state_is_refused)
{
    static const char *const files[] = { "trainer_state.json",
                                         "optimizer.safetensors" };
    holder h;
    char path[128];
    bise_str whole = { 0 };
    open_holder(&h, BISE_OPTIMIZER_ADAMW);
    ck_ok(bise_trainstate_save(&h.trainer, &h.base, &h.origin, dir, &err));
    snprintf(path, sizeof path, "%s/%s", dir, files[_i]);
    ck_ok(bise_file_read(&whole, path, &err));
    for (int k = 0; k < 24; k++) {
        const size_t n = whole.len * (size_t)k / 25;
        ck_ok(bise_file_write(path, whole.data, n, &err));
        bise_error_init(&err);
        ck_assert_msg(bise_trainstate_load(&h.trainer, &h.origin, dir, &err)
                      != BISE_OK, "%zu bytes of %s", n, files[_i]);
        ck_assert_uint_gt(strlen(err.text), 0);
    }
    ck_ok(bise_file_write(path, whole.data, whole.len, &err));
    ck_ok(bise_trainstate_load(&h.trainer, &h.origin, dir, &err));
    bise_str_fini(&whole);
    close_holder(&h);
}
END_TEST

/* An 8-bit state does not fit a float32 optimizer, nor the other way round. */
START_TEST(another_optimizer_is_refused)
{
    holder h, other;
    open_holder(&h, BISE_OPTIMIZER_LION);
    open_holder(&other, BISE_OPTIMIZER_ADAMW);
    ck_ok(bise_trainstate_save(&h.trainer, &h.base, &h.origin, dir, &err));
    ck_fails(bise_trainstate_load(&other.trainer, &h.origin, dir, &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "exp_avg_sq"));
    close_holder(&h);
    close_holder(&other);
}
END_TEST

START_TEST(a_digest_is_of_the_model)
{
    char a[65], b[65];
    bise_checkpoint c[2];
    ck_ok(bise_checkpoint_open(&c[0], GOLDEN "models/ministral3", NULL, &err));
    ck_ok(bise_checkpoint_open(&c[1], GOLDEN "models/ministral3-mscale", NULL,
                               &err));
    ck_ok(bise_base_digest(a, &c[0], &err));
    ck_ok(bise_base_digest(b, &c[0], &err));
    ck_assert_str_eq(a, b);
    ck_assert_uint_eq(strlen(a), 64);
    /* Only the configuration and some weights differ. */
    ck_ok(bise_base_digest(b, &c[1], &err));
    ck_assert_str_ne(a, b);
    bise_checkpoint_close(&c[0]);
    bise_checkpoint_close(&c[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rundir");
    TCase *t = tcase_create("directory");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, a_new_directory_is_made, 0, 3);
    tcase_add_test(t, an_empty_directory_is_taken);
    tcase_add_test(t, force_removes_products_only);
    tcase_add_test(t, a_lock_keeps_others_out);
    tcase_add_loop_test(t, no_memory_is_reported, 1, 9);
    suite_add_tcase(s, t);
    t = tcase_create("checkpoints");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, the_newest_whole_checkpoint, 0,
                        sizeof folders / sizeof folders[0]);
    tcase_add_test(t, pruning_keeps_the_newest);
    tcase_add_loop_test(t, the_state_comes_back_whole, 0, 3);
    tcase_add_loop_test(t, a_broken_state_is_refused, 0,
                        sizeof broken / sizeof broken[0]);
    tcase_add_loop_test(t, a_cut_state_is_refused, 0, 2);
    tcase_add_test(t, another_optimizer_is_refused);
    tcase_add_test(t, a_digest_is_of_the_model);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
