/* check_evaluate.c - the loss on a data set: equal to scoring every row alone,
 * whatever the passes, and untouched by dropout, training state and threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "finetune/trainer.h"

#define MODEL BISE_SRCDIR "/examples/tiny-mistral3"
enum { CAPACITY = 96 };

static bise_error err;
static char path[64];

/* A model with a fresh adapter, rows, and a trainer. */
typedef struct fixture {
    bise_checkpoint base;
    bise_tokenizer *tokenizer;
    bise_dataset *data;
    bise_lora lora;
    bise_lora *loras[1];
    bise_graph *graph;
    bise_pool *pool;
    bise_trainer trainer;
    volatile sig_atomic_t cancel;
    bise_progress progress;
} fixture;

static void open_all(fixture *f, const char *text, int threads)
{
    const bise_chat *chat;
    const char *files[1] = { path };
    memset(f, 0, sizeof *f);
    snprintf(path, sizeof path, "/tmp/bise-eval-%ld.jsonl", (long)getpid());
    ck_ok(bise_file_write(path, text, strlen(text), &err));
    ck_ok(bise_pool_new(&f->pool, threads, &err));
    ck_ok(bise_checkpoint_open(&f->base, MODEL, NULL, &err));
    ck_ok(bise_tokenizer_open(&f->tokenizer, f->base.store, NULL, &err));
    ck_ok(bise_chat_for(&chat, f->tokenizer, NULL, &err));
    const bise_dataset_options o = { .files = files, .n_files = 1,
                                     .tokenizer = f->tokenizer, .chat = chat,
                                     .max_len = CAPACITY };
    ck_ok(bise_dataset_open(&f->data, &o, &err));
    const bise_lora_options lo = { .r = 2, .alpha = 4, .dropout = 0.5,
                                   .target = "q_proj,up_proj", .seed = 3 };
    ck_ok(bise_lora_new(&f->lora, &f->base.config, &lo, true, &err));
    for (size_t i = 0; i < f->lora.n_values; i++)
        f->lora.values[i] += 0.02f * sinf((float)i);
    f->loras[0] = &f->lora;
    const bise_graph_options go = { .max_tokens = CAPACITY, .train = true,
                                    .loras = f->loras, .n_loras = 1,
                                    .dropout_seed = 1, .pool = f->pool };
    ck_ok(bise_graph_new(&f->graph, &f->base, &go, &err));
    f->progress.cancel = &f->cancel;
    const bise_trainer_options to = {
        .lora = &f->lora, .graph = f->graph, .progress = &f->progress,
        .optimizer = { .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8 },
        .schedule = { .lr = 1e-3, .steps = 10 } };
    ck_ok(bise_trainer_init(&f->trainer, &to, &err));
}

static void close_all(fixture *f)
{
    bise_trainer_fini(&f->trainer);
    bise_graph_free(f->graph);
    bise_lora_fini(&f->lora);
    bise_dataset_close(f->data);
    bise_tokenizer_free(f->tokenizer);
    bise_checkpoint_close(&f->base);
    bise_pool_free(f->pool);
    unlink(path);
}

static const char rows[] =
    "{\"text\": \"The old man sat by the fire and said nothing at all\"}\n"
    "{\"text\": \"short\"}\n"
    "{\"text\": \"SELECT a, b FROM c WHERE d = 'e' AND f > 7\"}\n"
    "{\"text\": \"one two three four five six seven eight nine ten\"}\n"
    "{\"text\": \"It was a dark night; the wind was high on the moor.\"}\n";

/* Mean over all targets, each row scored in a pass of its own. */
static double row_by_row(fixture *f)
{
    double sum = 0;
    uint64_t n = 0;
    for (uint64_t i = 0; i < bise_dataset_count(f->data); i++) {
        bise_row r;
        int32_t targets[CAPACITY], seg[2] = { 0, 0 };
        bise_dataset_row(f->data, i, &r);
        seg[1] = r.n - 1;
        for (int32_t t = 0; t + 1 < r.n; t++) {
            targets[t] = r.mask[t + 1] ? r.ids[t + 1] : -1;
            n += r.mask[t + 1];
        }
        const bise_batch b = { .ids = r.ids, .seg = seg, .T = r.n - 1,
                               .n_seg = 1, .targets = targets };
        ck_ok(bise_graph_loss(f->graph, &b, &sum, NULL, &err));
    }
    return sum / (double)n;
}

static const int32_t capacities[] = { 96, 64, 40, 35 };

START_TEST(packs_score_as_rows_do)
{
    fixture f;
    double loss = 0;
    open_all(&f, rows, 2);
    ck_ok(bise_trainer_evaluate(&f.trainer, f.data, capacities[_i], &loss,
                                &err));
    ck_assert_double_eq_tol(loss, row_by_row(&f), 1e-6);
    ck_assert(loss > 1 && loss < 12);
    close_all(&f);
}
END_TEST

/* Evaluating twice, at another step and with other gradients: the same bits. */
START_TEST(evaluation_has_no_state)
{
    fixture f;
    double a = 0, b = 0;
    open_all(&f, rows, 1);
    ck_ok(bise_trainer_evaluate(&f.trainer, f.data, CAPACITY, &a, &err));
    bise_graph_set_step(f.graph, 7, 3);
    f.trainer.state.step = 7;
    f.lora.grads[0] = 5;
    ck_ok(bise_trainer_evaluate(&f.trainer, f.data, CAPACITY, &b, &err));
    ck_assert_double_eq(a, b);
    ck_assert_float_eq(f.lora.grads[0], 5);
    close_all(&f);
}
END_TEST

START_TEST(threads_change_nothing)
{
    double loss[3] = { 0 };
    static const int threads[3] = { 1, 2, 5 };
    for (int i = 0; i < 3; i++) {
        fixture f;
        open_all(&f, rows, threads[i]);
        ck_ok(bise_trainer_evaluate(&f.trainer, f.data, CAPACITY, &loss[i],
                                    &err));
        close_all(&f);
    }
    ck_assert_double_eq(loss[0], loss[1]);
    ck_assert_double_eq(loss[0], loss[2]);
}
END_TEST

/* Dropout is for training only: a step's loss with half of the inputs gone
 * differs from the evaluation of the same rows. */
START_TEST(dropout_is_for_training)
{
    fixture f;
    double loss = 0, sum = 0;
    bise_row r;
    int32_t targets[CAPACITY], seg[2] = { 0, 0 };
    open_all(&f, "{\"text\": \"one two three four five six seven\"}\n", 1);
    bise_dataset_row(f.data, 0, &r);
    seg[1] = r.n - 1;
    for (int32_t t = 0; t + 1 < r.n; t++)
        targets[t] = r.ids[t + 1];
    const bise_batch b = { .ids = r.ids, .seg = seg, .T = r.n - 1, .n_seg = 1,
                           .targets = targets };
    ck_ok(bise_trainer_evaluate(&f.trainer, f.data, CAPACITY, &loss, &err));
    ck_ok(bise_graph_train(f.graph, &b, &sum, &err));
    ck_assert_double_gt(fabs(sum / (r.n - 1) - loss), 1e-6);
    close_all(&f);
}
END_TEST

START_TEST(a_cancelled_evaluation_stops)
{
    fixture f;
    double loss = -1;
    open_all(&f, rows, 1);
    f.cancel = 1;
    ck_fails(bise_trainer_evaluate(&f.trainer, f.data, CAPACITY, &loss, &err),
             BISE_ECANCEL);
    ck_assert_double_eq(loss, -1);
    close_all(&f);
}
END_TEST

/* A cancelled micro-batch leaves the state of the last whole step. */
START_TEST(a_cancelled_step_changes_nothing)
{
    fixture f;
    bise_row r;
    int32_t targets[CAPACITY], seg[2] = { 0, 0 };
    open_all(&f, rows, 1);
    bise_dataset_row(f.data, 0, &r);
    seg[1] = r.n - 1;
    for (int32_t t = 0; t + 1 < r.n; t++)
        targets[t] = r.ids[t + 1];
    const bise_batch b = { .ids = r.ids, .seg = seg, .T = r.n - 1, .n_seg = 1,
                           .targets = targets };
    const float before = f.lora.values[1];
    bise_trainer_begin(&f.trainer);
    ck_ok(bise_trainer_add(&f.trainer, &b, &err));
    f.cancel = 1;
    ck_fails(bise_trainer_add(&f.trainer, &b, &err), BISE_ECANCEL);
    ck_assert_uint_eq(f.trainer.state.step, 0);
    ck_assert_uint_eq(f.trainer.state.tokens, 0);
    ck_assert_float_eq(f.lora.values[1], before);
    /* The next begin starts clean. */
    f.cancel = 0;
    bise_step_report report;
    bise_trainer_begin(&f.trainer);
    ck_ok(bise_trainer_add(&f.trainer, &b, &err));
    ck_ok(bise_trainer_finish(&f.trainer, &report, &err));
    ck_assert_uint_eq(report.tokens, (uint64_t)r.n - 1);
    ck_assert_uint_eq(f.trainer.state.rows, 1);
    close_all(&f);
}
END_TEST

/* A step without any target is an error, not a division by zero. */
START_TEST(a_step_needs_a_target)
{
    fixture f;
    bise_step_report report;
    static const int32_t ids[2] = { 1, 5 }, targets[2] = { -1, -1 };
    static const int32_t seg[2] = { 0, 2 };
    const bise_batch b = { .ids = ids, .seg = seg, .T = 2, .n_seg = 1,
                           .targets = targets };
    open_all(&f, rows, 1);
    bise_trainer_begin(&f.trainer);
    ck_ok(bise_trainer_add(&f.trainer, &b, &err));
    ck_fails(bise_trainer_finish(&f.trainer, &report, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "step 1"));
    close_all(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("evaluate");
    TCase *t = tcase_create("evaluate");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, packs_score_as_rows_do, 0,
                        sizeof capacities / sizeof capacities[0]);
    tcase_add_test(t, evaluation_has_no_state);
    tcase_add_test(t, threads_change_nothing);
    tcase_add_test(t, dropout_is_for_training);
    suite_add_tcase(s, t);
    t = tcase_create("step");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_cancelled_evaluation_stops);
    tcase_add_test(t, a_cancelled_step_changes_nothing);
    tcase_add_test(t, a_step_needs_a_target);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
