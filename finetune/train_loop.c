/* train_loop.c - the loop of a run: steps, evaluations, log lines, checkpoints,
 * and the files that appear at the end. A run that stops for any reason leaves
 * the newest whole checkpoint; one that is asked to stop saves first.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/finetune.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/mem.h"
#include "finetune/report.h"
#include "finetune/rundir.h"
#include "finetune/runlog.h"
#include "finetune/trainstate.h"

/* Longest time between checkpoints unless --save-every says otherwise. */
enum { SAVE_SECONDS = 600 };

/* What the loop holds open. Order of life: the directory is claimed first and
 * released last, so that its lock covers every write; the graph borrows the
 * base and the adapter, the trainer borrows the graph. */
typedef struct loop {
    bise_finetune *f;
    bise_rundir dir;
    bise_graph *graph;
    bise_trainer trainer;
    bise_feed feed;
    bise_runlog *log;
    bise_fingerprint origin;
    uint64_t saved;           /* step of the newest checkpoint */
    uint64_t save_time;       /* clock of it, or of the start */
    bool has_saved, resumed;
    double time[BISE_TIME_PARTS]; /* of the last step */
} loop;

/* Names are checked by the table of settings; the last one is the rest. */
static bise_schedule_kind schedule_kind(const char *name)
{
    return strcmp(name, "linear") == 0     ? BISE_SCHEDULE_LINEAR
           : strcmp(name, "constant") == 0 ? BISE_SCHEDULE_CONSTANT
                                           : BISE_SCHEDULE_COSINE;
}

/* The same for optimizers. */
static bise_optimizer_kind optimizer_kind(const char *name)
{
    return strcmp(name, "lion") == 0     ? BISE_OPTIMIZER_LION
           : strcmp(name, "adamw8") == 0 ? BISE_OPTIMIZER_ADAMW8
                                         : BISE_OPTIMIZER_ADAMW;
}

/* The frozen layers in the type of --quantize-base, before anything else takes
 * memory. */
static bise_status quantize_base(bise_finetune *f, bise_error *err)
{
    const bise_dtype t = bise_finetune_base_type(f);
    const uint64_t start = bise_clock_ns();
    char text[32];
    if (t == BISE_DTYPE_NONE)
        return BISE_OK;
    if (bise_basequant_new(&f->basequant, &f->base, t, f->o.pool,
                           f->o.progress, err))
        return err->status;
    bise_progress_say(f->o.progress, "layers quantized to %s: %s in memory, "
                      "%.1f s", bise_dtype_get(t)->name,
                      bise_format_bytes(text, f->plan.base_bytes),
                      (double)(bise_clock_ns() - start) * 1e-9);
    return BISE_OK;
}

/* The graph takes its whole memory here: from now on a step allocates nothing
 * large. */
static bise_status make_trainer(loop *l, bise_error *err)
{
    bise_finetune *f = l->f;
    const bise_settings *s = f->s;
    if (quantize_base(f, err) ||
        bise_graph_new(&l->graph, &f->base, &f->graph_options, err))
        return err->status;
    const bise_trainer_options o = {
        .lora = &f->lora, .graph = l->graph, .clip = s->clip,
        .progress = f->o.progress,
        .optimizer = {
            .kind = optimizer_kind(s->optimizer),
            .beta1 = s->beta1, .beta2 = s->beta2, .eps = 1e-8,
            .weight_decay = s->weight_decay, .pool = f->o.pool },
        .schedule = { .kind = schedule_kind(s->schedule), .lr = s->lr,
                      .lr_min = s->lr_min, .steps = f->plan.feed.steps,
                      .warmup = f->plan.warmup },
    };
    if (bise_trainer_init(&l->trainer, &o, err))
        return err->status;
    return bise_feed_init(&l->feed, &f->plan.feed, f->train, err);
}

/* Fingerprints, and the newest checkpoint when resuming. */
static bise_status restore(loop *l, bise_error *err)
{
    bise_finetune *f = l->f;
    char *path = NULL;
    uint64_t step = 0;
    l->origin.settings = f->s;
    snprintf(l->origin.data, sizeof l->origin.data, "%s",
             bise_dataset_digest(f->train));
    if (bise_base_digest(l->origin.base, &f->base, err))
        return err->status;
    if (!f->o.resume)
        return BISE_OK;
    if (bise_trainstate_latest(&path, &step, l->dir.checkpoints, err))
        return err->status;
    if (!path) {
        bise_progress_say(f->o.progress, "no checkpoint yet: starting at the "
                                         "first step");
        return BISE_OK;
    }
    const bise_status s = bise_trainstate_load(&l->trainer, &l->origin, path,
                                               err);
    bise_free(path);
    if (s)
        return s;
    l->saved = step;
    l->has_saved = l->resumed = true;
    bise_progress_say(f->o.progress, "resuming after step %" PRIu64, step);
    return BISE_OK;
}

/* Written again on resume: settings that may change (how often to save, paths)
 * are then those of the newest run. */
static bise_status write_settings(const loop *l, bise_error *err)
{
    bise_str text = { 0 };
    bise_str_puts(&text, "# bise finetune --config THIS starts this run "
                         "again\n");
    bise_status s = bise_settings_dump(&text, l->f->s, err);
    if (!s)
        s = bise_file_write(l->dir.settings, bise_str_get(&text), text.len,
                            err);
    bise_str_fini(&text);
    return s;
}

/* Write checkpoints/STEP unless it is there, and drop old ones. */
static bise_status save(loop *l, bise_error *err)
{
    const uint64_t step = l->trainer.state.step;
    if (l->has_saved && l->saved == step)
        return BISE_OK;
    char *path = bise_rundir_step(&l->dir, step);
    if (!path)
        return bise_fail_nomem(err);
    const bise_status s = bise_trainstate_save(&l->trainer, &l->f->base,
                                               &l->origin, path, err);
    bise_free(path);
    if (s)
        return s;
    l->saved = step;
    l->save_time = bise_clock_ns();
    l->has_saved = true;
    return bise_trainstate_prune(l->dir.checkpoints, (size_t)l->f->s->keep,
                                 err);
}

/* Seconds of the monotonic clock, which never runs backwards. */
static double seconds_since(uint64_t start)
{
    return (double)(bise_clock_ns() - start) * 1e-9;
}

/* Evaluate into the state; NaN in *loss when there is no evaluation data. */
static bise_status evaluate(loop *l, double *loss, bise_error *err)
{
    bise_train_state *st = &l->trainer.state;
    *loss = NAN;
    if (!l->f->eval)
        return BISE_OK;
    if (bise_trainer_evaluate(&l->trainer, l->f->eval, l->f->plan.pass_tokens,
                              loss, err))
        return err->status;
    if (isnan(st->eval_first))
        st->eval_first = *loss;
    st->eval_last = *loss;
    return BISE_OK;
}

/* The line of step 0: evaluation before training, and the facts of the run. */
static bise_status log_start(loop *l, bise_error *err)
{
    double loss;
    if (evaluate(l, &loss, err))
        return err->status;
    bise_json *facts = bise_finetune_facts(l->f);
    const bise_logline line = {
        .loss = NAN, .lr = NAN, .grad_norm = NAN, .tokens_per_second = NAN,
        .eval_loss = loss, .peak_rss_bytes = bise_peak_rss_bytes() };
    const bise_status s = bise_runlog_add(l->log, &line, facts, err);
    bise_json_free(facts);
    if (!s && isfinite(loss))
        bise_progress_say(l->f->o.progress, "evaluation loss before training "
                          "%.4f", loss);
    return s;
}

/* Seconds of a step by part: those of the graph since before, and the two that
 * are the trainer's. */
static void split_time(loop *l, const double *before, double optimizer,
                       double all)
{
    const double *now = bise_graph_seconds(l->graph);
    l->time[BISE_TIME_OTHER] = all - optimizer;
    for (int i = 0; i < BISE_STEP_PARTS; i++) {
        l->time[i] = now[i] - before[i];
        l->time[BISE_TIME_OTHER] -= l->time[i];
    }
    l->time[BISE_TIME_OPTIMIZER] = optimizer;
}

/* Feed and finish one step; the cursor moves only when it is done. */
static bise_status one_step(loop *l, bise_step_report *r, double *seconds,
                            bise_error *err)
{
    const uint64_t start = bise_clock_ns();
    bise_train_state *st = &l->trainer.state;
    bool more = true;
    double before[BISE_STEP_PARTS];
    memcpy(before, bise_graph_seconds(l->graph), sizeof before);
    bise_trainer_begin(&l->trainer);
    bise_feed_begin(&l->feed, st->cursor);
    for (;;) {
        bise_batch b;
        if (bise_feed_next(&l->feed, &b, &more, err))
            return err->status;
        if (!more)
            break;
        if (bise_trainer_add(&l->trainer, &b, err))
            return err->status;
    }
    const uint64_t fed = bise_clock_ns();
    if (bise_trainer_finish(&l->trainer, r, err))
        return err->status;
    st->cursor = l->feed.cursor;
    *seconds = seconds_since(start);
    split_time(l, before, seconds_since(fed), *seconds);
    st->seconds += *seconds;
    return BISE_OK;
}

/* Log the step, with its evaluation when one is due. */
static bise_status after_step(loop *l, const bise_step_report *r,
                              double seconds, bise_error *err)
{
    const bise_finetune_plan *p = &l->f->plan;
    const bise_train_state *st = &l->trainer.state;
    bise_logline line = {
        .step = r->step, .loss = r->loss, .lr = r->lr,
        .grad_norm = r->grad_norm, .seconds = st->seconds, .eval_loss = NAN,
        .tokens_per_second = (double)r->tokens / seconds,
        .tokens = st->tokens, .supervised = st->supervised,
        .peak_rss_bytes = bise_peak_rss_bytes() };
    memcpy(line.time, l->time, sizeof line.time);
    const bool due = r->step % p->eval_every == 0 || r->step == p->feed.steps;
    if (due && evaluate(l, &line.eval_loss, err)) {
        /* Stopped while evaluating: the step itself is done and is logged. */
        bise_error second;
        bise_error_init(&second);
        line.eval_loss = NAN;
        const bise_status s = bise_runlog_add(l->log, &line, NULL, &second);
        (void)s;                        /* the first error is the one told */
        return err->status;
    }
    if (r->skipped)
        bise_progress_say(l->f->o.progress, "step %" PRIu64 " left out: its "
                          "gradient is not finite", r->step);
    if (isfinite(line.eval_loss))
        bise_progress_say(l->f->o.progress, "step %" PRIu64 ": loss %.4f, "
                          "evaluation loss %.4f", r->step, r->loss,
                          line.eval_loss);
    return bise_runlog_add(l->log, &line, NULL, err);
}

/* Each round: a step, its evaluation and log line, a checkpoint when one is
 * due, progress. The user's wish to stop is seen between micro-batches and
 * here; in both cases the state is that of a whole step. */
static bise_status run_steps(loop *l, bise_error *err)
{
    const bise_finetune_plan *p = &l->f->plan;
    const bise_train_state *st = &l->trainer.state;
    char remark[64];
    while (st->step < p->feed.steps) {
        bise_step_report r;
        double seconds = 0;
        if (one_step(l, &r, &seconds, err) ||
            after_step(l, &r, seconds, err))
            return err->status;
        const bool late = !l->f->s->save_every &&
                          seconds_since(l->save_time) > SAVE_SECONDS;
        if ((r.step % p->save_every == 0 || late) && save(l, err))
            return err->status;
        snprintf(remark, sizeof remark, "loss %.4f", r.loss);
        if (bise_progress_step(l->f->o.progress, "finetune", r.step,
                               p->feed.steps, "steps", remark, err))
            return err->status;
    }
    return save(l, err);
}

/* The files that make the directory a finished one; the adapter comes last. */
static bise_status publish(loop *l, bise_error *err)
{
    bise_str card = { 0 };
    bise_rundir_card(&card, l->f, &l->trainer.state);
    bise_status s = bise_str_ok(&card) ? BISE_OK : bise_fail_nomem(err);
    if (!s)
        s = bise_file_write(l->dir.card, bise_str_get(&card), card.len, err);
    bise_str_fini(&card);
    if (!s)
        s = bise_report_write(l->dir.dir, err);
    if (!s)
        s = bise_lora_save_peft(&l->f->lora, &l->f->base,
                                l->f->base.base_name, l->dir.dir, err);
    return s;
}

/* Everything after the directory is claimed. */
static bise_status train(loop *l, bise_error *err)
{
    if (make_trainer(l, err) || restore(l, err) || write_settings(l, err) ||
        bise_runlog_open(&l->log, l->dir.log,
                         l->resumed ? (int64_t)l->trainer.state.step : -1,
                         err))
        return err->status;
    if (!l->resumed && log_start(l, err))
        return err->status;
    if (run_steps(l, err) == BISE_OK)
        return publish(l, err);
    /* Asked to stop: keep the work since the last checkpoint. */
    if (err->status == BISE_ECANCEL && l->trainer.state.step) {
        bise_error second;
        bise_error_init(&second);
        if (save(l, &second) == BISE_OK)
            return bise_error_hint(err, "the state after step %" PRIu64
                                   " is saved; --resume goes on",
                                   l->trainer.state.step);
    }
    return err->status;
}

/* Tokens stay in a hidden folder of the run, so that a resumed run does not
 * tokenize again. A full disk is no reason to stop: they can be made anew. */
static void keep_tokens(const loop *l)
{
    const bise_dataset *const sets[] = { l->f->train, l->f->eval };
    char *dir = bise_path_join(l->f->s->output, ".cache");
    bise_error ignored;
    bise_error_init(&ignored);
    bise_status s = dir ? bise_mkdir(dir, &ignored) :
                          bise_fail_nomem(&ignored);
    for (int i = 0; s == BISE_OK && i < 2; i++)
        if (sets[i])
            s = bise_dataset_keep(sets[i], dir, &ignored);
    if (s != BISE_OK)
        bise_progress_say(l->f->o.progress, "tokens are not kept: %s",
                          ignored.text);
    bise_free(dir);
}

/* Everything is released on every path; the log is closed last of the writers
 * and its error counts only when nothing failed before. */
bise_status bise_finetune_train(bise_finetune *f, bise_train_state *state,
                                bise_error *err)
{
    loop l = { .f = f, .save_time = bise_clock_ns() };
    bise_error second;
    if (!f->s->output)
        return bise_fail(err, BISE_EINVAL, "no output directory given")
                   ? bise_error_hint(err, "-o DIR") : BISE_OK;
    if (bise_rundir_open(&l.dir, f->s->output, f->o.resume, f->o.force, err))
        return err->status;
    keep_tokens(&l);
    bise_status s = train(&l, err);
    *state = l.trainer.state;
    bise_error_init(&second);
    if (bise_runlog_close(l.log, s ? &second : err) && !s)
        s = err->status;
    bise_feed_fini(&l.feed);
    bise_trainer_fini(&l.trainer);
    bise_graph_free(l.graph);
    bise_rundir_close(&l.dir);
    return s;
}
