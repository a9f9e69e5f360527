/* finetune.c - opens what a run needs and plans it: model, tokenizer, data,
 * adapter, graph options, memory, disk. Nothing large is read or allocated but
 * the adapter; training itself is in train_loop.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/finetune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/cpu.h"
#include "core/file.h"
#include "core/mem.h"
#include "model/lineage.h"

/* Position of text in "a|b|c". */
static int choice(const char *text, const char *choices)
{
    int at = 0;
    const size_t n = strlen(text);
    for (const char *p = choices; *p; at++) {
        const size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, text, n) == 0)
            return at;
        p += len + (p[len] == '|');
    }
    return 0;
}

/* The precision of products. */
static bise_compute compute_of(const bise_settings *s)
{
    return (bise_compute)choice(s->compute, "f32|bf16|int8");
}

/* Open a list of files as a dataset. A resumed run finds its tokens where it
 * left them (train_loop.c). */
static bise_status open_data(bise_dataset **out, const bise_finetune *f,
                             const bise_chat *chat, const bise_json *list,
                             const char *split, bise_error *err)
{
    const size_t n = bise_json_size(list);
    const char **files = bise_alloc_array(n, sizeof *files);
    if (!files)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < n; i++)
        files[i] = bise_json_string(bise_json_at(list, i), NULL);
    char *cache = f->o.resume && f->s->output ?
                  bise_path_join(f->s->output, ".cache") : NULL;
    if (cache && !bise_is_dir(cache)) {
        bise_free(cache);
        cache = NULL;
    }
    const bise_dataset_options o = {
        .files = files, .n_files = (int32_t)n, .split = split,
        .tokenizer = f->tokenizer, .chat = chat,
        .train_on = (bise_train_on)choice(f->s->train_on,
                                          "assistant|all|last"),
        .effort = f->s->reasoning_effort, .cache_dir = cache,
        .max_len = (int32_t)f->s->max_len,
        .too_long = (bise_too_long)choice(f->s->too_long, "cut|drop|error"),
        .pool = f->o.pool, .progress = f->o.progress,
    };
    const bise_status s = bise_dataset_open(out, &o, err);
    bise_free(cache);
    bise_free(files);
    return s;
}

/* Tell about rows that were cut or left out. */
static void tell_data(const bise_finetune *f, const char *what,
                      const bise_dataset *d)
{
    const bise_dataset_stats *st = bise_dataset_stats_of(d);
    bise_progress_say(f->o.progress, "%s: %llu samples, %llu tokens, %llu "
                      "trained", what, (unsigned long long)st->samples,
                      (unsigned long long)st->tokens,
                      (unsigned long long)st->supervised);
    if (st->truncated)
        bise_progress_say(f->o.progress, "%s: %llu samples cut at %lld tokens",
                          what, (unsigned long long)st->truncated,
                          (long long)f->s->max_len);
    if (st->dropped || st->no_target)
        bise_progress_say(f->o.progress, "%s: left out %llu samples that are "
                          "too long, %llu without a trained token", what,
                          (unsigned long long)st->dropped,
                          (unsigned long long)st->no_target);
}

/* Cheap checks first: a missing argument is told before a model is opened, and
 * a bad row before memory is planned. The chat format follows from the
 * tokenizer's version; rows of plain text do not use it. */
static bise_status open_inputs(bise_finetune *f, bise_error *err)
{
    const bise_settings *s = f->s;
    const bise_chat *chat = NULL;
    if (!s->model)
        return bise_fail(err, BISE_EINVAL, "no model given");
    if (!s->data || !bise_json_size(s->data))
        return bise_fail(err, BISE_EINVAL, "no training data given")
                   ? bise_error_hint(err, "--data FILE.jsonl") : BISE_OK;
    if (bise_checkpoint_open(&f->base, s->model, f->o.progress, err) ||
        bise_tokenizer_open(&f->tokenizer, f->base.store, f->o.progress, err) ||
        bise_tokenizer_fits(f->tokenizer, f->base.config.V, err) ||
        bise_chat_for(&chat, f->tokenizer, s->chat_format, err) ||
        open_data(&f->train, f, chat, s->data, "train", err))
        return err->status;
    tell_data(f, "training data", f->train);
    if (!s->eval_data || !bise_json_size(s->eval_data))
        return BISE_OK;
    if (open_data(&f->eval, f, chat, s->eval_data, "valid", err))
        return err->status;
    tell_data(f, "evaluation data", f->eval);
    return BISE_OK;
}

/* Files by their names, a share ":0.5" cut off. */
static int add_files(bise_json *l, const bise_json *files)
{
    int bad = 0;
    for (size_t i = 0; i < bise_json_size(files); i++) {
        char name[256];
        snprintf(name, sizeof name, "%s", bise_path_base(bise_json_string(
                     bise_json_at(files, i), NULL)));
        name[strcspn(name, ":")] = 0;
        bad |= bise_lineage_add(l, "datasets", name);
    }
    return bad;
}

/* The adapter is under the terms of its base, and made from it, from the data
 * and by this command. */
static bise_status make_lineage(bise_finetune *f, bise_error *err)
{
    static const char *const own[] = { "base_model", "datasets", "history",
                                       "adapters", "tags", "metadata" };
    bise_json *l = bise_lineage_made(f->base.lineage, "", NULL, 0);
    int bad = l ? 0 : -1;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        bise_json_remove(l, own[i]);
    bad |= bise_lineage_add(l, "base_model", f->base.base_name);
    bad |= add_files(l, f->s->data);
    if (f->o.command)
        bad |= bise_lineage_add(l, "history", f->o.command);
    bise_json_free(f->lora.lineage);
    f->lora.lineage = l;
    return bad ? bise_fail_nomem(err) : BISE_OK;
}

/* The adapter is made before the plan because its size and the modules it sits
 * on are part of it. */
static bise_status make_adapter(bise_finetune *f, bise_error *err)
{
    const bise_settings *s = f->s;
    const bise_lora_options o = {
        .r = (int32_t)s->lora_r, .alpha = s->lora_alpha,
        .dropout = s->lora_dropout, .rslora = s->rslora, .target = s->target,
        .rank_pattern = s->rank_pattern, .alpha_pattern = s->alpha_pattern,
        .seed = (uint64_t)s->seed,
    };
    const bise_status st = bise_lora_new(&f->lora, &f->base.config, &o, true,
                                         err);
    return st == BISE_OK ? make_lineage(f, err) : st;
}

/* "none" is no type's name. */
bise_dtype bise_finetune_base_type(const bise_finetune *f)
{
    if (compute_of(f->s) == BISE_COMPUTE_INT8)
        return BISE_DTYPE_I8;
    return bise_dtype_by_name(f->s->quantize_base);
}

/* The copy of the layers that --quantize-base asks for. */
static bise_status plan_base(bise_finetune *f, bise_error *err)
{
    const bise_dtype t = bise_finetune_base_type(f);
    if (t == BISE_DTYPE_NONE && strcmp(f->s->quantize_base, "none") != 0)
        return bise_fail(err, BISE_EINVAL, "setting 'quantize-base' is '%.40s'"
                         ", which is no type", f->s->quantize_base)
                   ? bise_error_hint(err, "nf4, q8_0, q6_k, q5_k, q4_k, q3_k, "
                                     "q2_k, q5_1, q5_0, q4_1, q4_0, iq4_xs, "
                                     "iq4_nl, mxfp4, nvfp4 or none")
                   : BISE_OK;
    if (bise_dtype_by_name(f->s->quantize_base) == BISE_DTYPE_I8)
        return bise_fail(err, BISE_EUNSUPPORTED, "bise does not quantize to "
                         "I8 on its own")
                   ? bise_error_hint(err, "--compute int8 makes such a copy of "
                                     "the layers") : BISE_OK;
    if (t == BISE_DTYPE_I8 && strcmp(f->s->quantize_base, "none") != 0)
        return bise_fail(err, BISE_EINVAL, "--compute int8 makes its own copy "
                         "of the layers, --quantize-base %.40s another",
                         f->s->quantize_base)
                   ? bise_error_hint(err, "leave out one of them") : BISE_OK;
    if (t == BISE_DTYPE_NONE)
        return BISE_OK;
    return bise_basequant_plan(&f->plan.base_bytes, NULL, &f->base, t, err);
}

/* Steps between two events: as given, or a tenth of the run. */
static uint64_t every(int64_t option, uint64_t steps)
{
    const uint64_t tenth = (steps + 9) / 10;
    return option ? (uint64_t)option : tenth;
}

/* Inputs of a step on average. */
static double step_tokens(const bise_finetune *f)
{
    const bise_dataset_stats *st = bise_dataset_stats_of(f->train);
    const bise_feed_plan *p = &f->plan.feed;
    const double per_row = (double)st->tokens / (double)st->samples;
    if (!p->step_packs)
        return (double)p->step_tokens;
    return (double)p->step_packs *
           (p->pack.packing ? (double)p->pack.max_tokens
                            : (double)p->pack.rows_per_pack * per_row);
}

/* Steps between evaluations: as given, or a tenth of the run, but so many that
 * twice as many tokens are trained as evaluated. */
static uint64_t eval_every(const bise_finetune *f)
{
    const uint64_t n = every(f->s->eval_every, f->plan.feed.steps);
    if (f->s->eval_every || !f->eval)
        return n;
    const double tokens = (double)bise_dataset_stats_of(f->eval)->tokens;
    const uint64_t least = (uint64_t)ceil(2 * tokens / step_tokens(f));
    return n < least ? least : n;
}

/* Longest pass of training or evaluation in tokens. */
static int32_t longest_pass(const bise_finetune *f)
{
    int32_t n = f->plan.feed.pass_tokens;
    if (f->eval) {
        const int32_t longest = bise_dataset_stats_of(f->eval)->longest;
        const int32_t max_len = (int32_t)f->s->max_len;
        const int32_t need = longest < max_len ? longest : max_len;
        n = need > n ? need : n;
    }
    return n;
}

/* Longest sample of either set. */
static int32_t longest_sample(const bise_finetune *f)
{
    int32_t n = bise_dataset_stats_of(f->train)->longest;
    if (f->eval && bise_dataset_stats_of(f->eval)->longest > n)
        n = bise_dataset_stats_of(f->eval)->longest;
    return n < (int32_t)f->s->max_len ? n : (int32_t)f->s->max_len;
}

/* The coefficient of the experts' auxiliary loss; as in transformers it is
 * part of the loss only when the configuration says so. */
static double router_aux(const bise_finetune *f)
{
    const bise_config *c = &f->base.config;
    const bool on = strcmp(f->s->router_aux, "auto") == 0
                        ? c->router_aux : strcmp(f->s->router_aux, "on") == 0;
    return on && c->E ? c->router_aux_coef : 0;
}

/* The graph must hold the longest pass of training and of evaluation: both run
 * in the same arena. */
static void plan_graph(bise_finetune *f)
{
    f->loras[0] = &f->lora;
    f->plan.pass_tokens = longest_pass(f);
    f->graph_options = (bise_graph_options){
        .max_tokens = f->plan.pass_tokens, .max_seq = longest_sample(f),
        .train = true,
        .compute = compute_of(f->s),
        .checkpointing = (bise_ckpt_mode)choice(f->s->checkpointing,
                                                "auto|on|off"),
        .loras = f->loras, .n_loras = 1, .router_aux = router_aux(f),
        .dropout_seed = (uint64_t)f->s->seed, .pool = f->o.pool,
    };
}

/* The order follows the needs: data gives the passes, they give the graph, the
 * arena gets the memory that adapter and moments leave. */
static bise_status make_plan(bise_finetune *f, bise_error *err)
{
    bise_finetune_plan *p = &f->plan;
    const bise_settings *s = f->s;
    if (bise_feed_plan_make(&p->feed, s, f->train, err))
        return err->status;
    plan_graph(f);
    p->warmup = bise_schedule_warmup(s->warmup, p->feed.steps);
    p->parameters = f->lora.n_values;
    p->adapter_bytes = p->parameters * 2 * sizeof(float);
    p->optimizer_bytes = bise_optimizer_bytes(
        (bise_optimizer_kind)choice(s->optimizer, "adamw|adamw8|lion"),
        p->parameters);
    if (plan_base(f, err))
        return err->status;
    /* What is free, and what is in use already; a tenth is left to others. */
    p->memory_limit = s->memory ? s->memory : p->program_bytes +
                      bise_memory_available() / 10 * 9;
    /* One checkpoint: the adapter twice (PEFT's file and ours) and moments. */
    const uint64_t checkpoint = p->adapter_bytes + p->optimizer_bytes;
    p->disk_bytes = (uint64_t)(s->keep + 1) * checkpoint +
                    p->parameters * sizeof(float);
    p->eval_every = eval_every(f);
    p->save_every = every(s->save_every, p->feed.steps);
    p->tokens = (double)p->feed.steps * step_tokens(f);
    if (bise_finetune_plan_memory(f, err))
        return err->status;
    return bise_finetune_plan_time(f, err);
}

/* On failure everything opened so far is closed again, f is zeroed. */
bise_status bise_finetune_open(bise_finetune *f, const bise_settings *s,
                               const bise_finetune_options *o,
                               bise_error *err)
{
    memset(f, 0, sizeof *f);
    f->s = s;
    f->o = *o;
    if (open_inputs(f, err) == BISE_OK) {
        f->plan.product_speed = bise_finetune_speed(o->pool, compute_of(s));
        f->plan.program_bytes = o->program_bytes ? o->program_bytes
                                                  : bise_rss_bytes(NULL);
        if (make_adapter(f, err) == BISE_OK && !make_plan(f, err))
            return BISE_OK;
    }
    bise_finetune_close(f);
    return err->status;
}

/* Reverse order of opening: the dataset borrows the tokenizer, the adapter the
 * configuration of the base. */
void bise_finetune_close(bise_finetune *f)
{
    bise_lora_fini(&f->lora);
    bise_dataset_close(f->eval);
    bise_dataset_close(f->train);
    bise_tokenizer_free(f->tokenizer);
    bise_basequant_free(f->basequant);
    bise_checkpoint_close(&f->base);
    memset(f, 0, sizeof *f);
}

/* Set a text member; memory failures leave the key out of the facts. */
static void put_text(bise_json *o, const char *key, const char *text)
{
    (void)bise_json_set(o, key, bise_json_new_string(text));
}

/* Set a whole number; figures of a run stay far below 2^63. */
static void put_int(bise_json *o, const char *key, uint64_t v)
{
    (void)bise_json_set(o, key, bise_json_new_int((int64_t)v));
}

/* Facts of a dataset; files by their base names only. */
static bise_json *data_facts(const bise_json *files, const bise_dataset *d)
{
    const bise_dataset_stats *st = bise_dataset_stats_of(d);
    bise_json *o = bise_json_new_object(), *list = bise_json_new_array();
    for (size_t i = 0; i < bise_json_size(files); i++)
        (void)bise_json_append(list, bise_json_new_string(bise_path_base(
            bise_json_string(bise_json_at(files, i), NULL))));
    (void)bise_json_set(o, "files", list);
    put_text(o, "format", st->format);
    put_int(o, "rows", st->rows);
    put_int(o, "samples", st->samples);
    put_int(o, "tokens", st->tokens);
    put_int(o, "trained_tokens", st->supervised);
    put_int(o, "longest", (uint64_t)st->longest);
    put_int(o, "cut", st->truncated);
    put_int(o, "left_out", st->dropped + st->no_target);
    put_text(o, "digest", bise_dataset_digest(d));
    return o;
}

/* How rows share passes, and what is left empty of them. Nothing is ever
 * padded: empty is room without work. */
static void put_packing(bise_json *o, const bise_feed_plan *p)
{
    char text[96];
    if (p->pack.packing)
        snprintf(text, sizeof text, "rows share passes of %d tokens, %.1f %% "
                 "of them empty; no padding", (int)p->pack.max_tokens,
                 100 * p->empty);
    else
        snprintf(text, sizeof text, p->pass_rows == 1
                 ? "one row a pass; no padding"
                 : "rows side by side in a pass; no padding");
    put_text(o, "packing", text);
}

/* The name comes from the card or the folder, never a path of this machine. */
static bise_json *model_facts(const bise_finetune *f)
{
    bise_json *o = bise_json_new_object();
    const bise_checkpoint *c = &f->base;
    put_text(o, "name", c->base_name);
    put_text(o, "licence", c->licence[0] ? c->licence : "unknown");
    put_text(o, "family", bise_family_name(c->config.family));
    put_text(o, "format", bise_store_format(c->store));
    put_int(o, "parameters", bise_config_parameters(&c->config));
    put_int(o, "layers", (uint64_t)c->config.L);
    put_int(o, "hidden", (uint64_t)c->config.C);
    put_int(o, "vocabulary", (uint64_t)c->config.V);
    put_int(o, "product_flops_per_token", (uint64_t)f->plan.token_flops);
    if (bise_finetune_base_type(f) != BISE_DTYPE_NONE) {
        char text[32];
        put_text(o, "layers_quantized_to",
                 bise_dtype_get(bise_finetune_base_type(f))->name);
        put_text(o, "layers_in_memory",
                 bise_format_bytes(text, f->plan.base_bytes));
    }
    return o;
}

/* What makes two runs' speeds comparable. No host name: the log is meant to be
 * shared. */
static bise_json *machine_facts(const bise_finetune *f)
{
    bise_json *o = bise_json_new_object();
    char text[32];
    put_text(o, "processor", bise_cpu_model());
    put_text(o, "instruction_set", bise_cpu_name(bise_cpu_level()));
    put_int(o, "cores", (uint64_t)bise_cpu_cores());
    put_int(o, "threads", (uint64_t)bise_pool_threads(f->o.pool));
    put_int(o, "product_gflops", (uint64_t)(f->plan.product_speed * 1e-9));
    put_text(o, "free_memory",
             bise_format_bytes(text, bise_memory_available()));
    put_text(o, "program", "bise " PACKAGE_VERSION " (" BISE_COMMIT ")");
    return o;
}

/* Everything the report shows beside curves and settings, in the order of its
 * tables. */
bise_json *bise_finetune_facts(const bise_finetune *f)
{
    bise_json *o = bise_json_new_object(), *a = bise_json_new_object();
    char text[32];
    put_text(o, "started", bise_clock_iso(text));
    (void)bise_json_set(o, "model", model_facts(f));
    put_int(a, "trained_values", f->plan.parameters);
    put_int(a, "modules", f->lora.n);
    put_int(a, "steps", f->plan.feed.steps);
    put_int(a, "warm_up_steps", f->plan.warmup);
    put_int(a, "tokens_in_a_pass", (uint64_t)f->plan.feed.pass_tokens);
    put_packing(a, &f->plan.feed);
    (void)bise_json_set(o, "adapter", a);
    (void)bise_json_set(o, "data", data_facts(f->s->data, f->train));
    if (f->eval)
        (void)bise_json_set(o, "evaluation_data",
                            data_facts(f->s->eval_data, f->eval));
    (void)bise_json_set(o, "machine", machine_facts(f));
    return o;
}
