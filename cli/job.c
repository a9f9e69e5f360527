/* job.c - see job.h. Nothing here knows formats or types: a plan comes in from
 * convert/ or quantize/, and goes to the runner or to the screen.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/packed.h"
#include "cli/record.h"
#include "cli/table.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "deploy/release.h"
#include "kernels/codec.h"
#include "model/lineage.h"

/* n_loras counts what was loaded, so that closing after a failure releases
 * exactly that. */
bise_status bise_job_open(bise_job *j, bise_context *ctx, bise_error *err)
{
    int n = 0;
    const char *const *adapters = bise_opt_list(ctx->args, "adapter", &n);
    bise_status s = bise_checkpoint_open(&j->model, bise_arg(ctx->args, 0),
                                         ctx->progress, err);
    if (s != BISE_OK)
        return s;
    j->opened = true;
    s = bise_record_licence(ctx, bise_arg(ctx->args, 0), j->model.licence,
                            false, err);
    j->loras = bise_alloc_array((size_t)n + 1, sizeof *j->loras);
    j->list = bise_alloc_array((size_t)n + 1, sizeof *j->list);
    if (s == BISE_OK && (!j->loras || !j->list))
        s = bise_fail_nomem(err);
    for (int i = 0; i < n && s == BISE_OK; i++) {
        s = bise_lora_load(&j->loras[i], adapters[i], &j->model, err);
        if (s == BISE_OK) {
            j->list[i] = &j->loras[i];
            j->n_loras++;
            s = bise_record_licence(ctx, bise_path_base(adapters[i]),
                                    bise_lineage_licence(j->loras[i].lineage),
                                    true, err);
        }
    }
    return s;
}

/* The plan first: it borrows from the model and the adapters. */
void bise_job_close(bise_job *j)
{
    bise_plan_fini(&j->plan);
    bise_plan_fini(&j->vision);
    for (int i = 0; i < j->n_loras; i++)
        bise_lora_fini(&j->loras[i]);
    bise_free(j->loras);
    bise_free(j->list);
    if (j->opened)
        bise_checkpoint_close(&j->model);
}

/* The model by its own name: an archive of it gives the same history. */
bise_status bise_job_record(bise_job *j, const bise_context *ctx,
                            bise_error *err)
{
    char *line = bise_record_command(ctx, j->model.base_name);
    bise_status s = line ? bise_plan_record(&j->plan, line, err)
                         : bise_fail_nomem(err);
    if (s == BISE_OK && j->vision_path)
        s = bise_plan_record(&j->vision, line, err);
    bise_free(line);
    return s;
}

/* Under --plan a name is optional; with one, its disk is reported. */
bise_status bise_job_output(const char **out, const bise_context *ctx,
                            bise_error *err)
{
    *out = bise_opt_str(ctx->args, "o", NULL);
    if (*out || bise_opt_given(ctx->args, "plan"))
        return BISE_OK;
    return bise_fail(err, BISE_EINVAL, "-o OUT is missing");
}

bool bise_job_is_gguf(const char *path)
{
    return path && (bise_ends_with(path, ".gguf") ||
                    bise_ends_with(path, ".gguf.tar.zst"));
}

/* ---- the plan on screen ---- */

/* "4096x1024" of a tensor. */
static const char *shape_text(char out[64], const bise_plan_tensor *t)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < t->n_dims && n < 48; i++)
        n += (size_t)snprintf(out + n, 64 - n, i ? "x%" PRIu64 : "%" PRIu64,
                              t->dims[i]);
    return out;
}

/* A stream without stored bytes is shown as the floats it gives. */
static const char *type_name(bise_dtype t)
{
    return t == BISE_DTYPE_NONE ? "F32" : bise_dtype_get(t)->name;
}

/* Nanoseconds that encoding one weight takes here, from a small sample. */
static double encode_cost(bise_dtype t)
{
    enum { N = 8192 };
    const bise_codec *c = bise_codec_get(t);
    const size_t bytes = (size_t)bise_dtype_bytes(t, N);
    float *x = bise_alloc_array(N, sizeof *x);
    void *y = bise_alloc(bytes);
    double best = 0;
    for (int r = 0; x && y && c && c->encode && r < 3; r++) {
        for (int i = 0; i < N; i++)     /* some ordinary weights */
            x[i] = 0.02f * (float)((i * 7919 + r) % 201 - 100) / 100;
        const uint64_t start = bise_clock_ns();
        c->encode(y, x, 1, N, NULL);
        const double ns = (double)(bise_clock_ns() - start) / N;
        best = r == 0 || ns < best ? ns : best;
    }
    bise_free(x);
    bise_free(y);
    return best;
}

/* Seconds by the cost of encoding each type on these threads, plus reading
 * and writing at the speed of a memory copy. */
static double estimate(const bise_plan *p, int threads)
{
    double cost[BISE_DTYPE_COUNT], ns = 0;
    for (int t = 0; t < BISE_DTYPE_COUNT; t++)
        cost[t] = -1;
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        if (bise_plan_is_raw(t))
            continue;
        if (cost[t->dtype] < 0)
            cost[t->dtype] = encode_cost(t->dtype) + 0.3;
        ns += cost[t->dtype] * (double)(bise_stream_rows(t->stream) *
                                        bise_stream_cols(t->stream));
    }
    const double bytes = (double)(bise_plan_bytes_in(p) +
                                  bise_plan_bytes_out(p));
    return ns * 1e-9 / threads + bytes / 2.5e9;
}

/* The name stands last, because it is the column that may be cut at 80; a
 * star marks tensors with importance. */
static void print_tensors(bise_context *ctx, const bise_plan *p)
{
    static const char *const heads[] = { ">bytes", "from", "to", "shape",
                                         "tensor" };
    bise_table table;
    bise_str text = { 0 };
    char shape[64];
    bise_table_init(&table, 5, heads);
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        bise_table_add(&table, "%" PRIu64, bise_plan_tensor_bytes(t));
        bise_table_add(&table, "%s", type_name(bise_stream_dtype(t->stream)));
        bise_table_add(&table, "%s%s", bise_dtype_get(t->dtype)->name,
                       t->imatrix ? "*" : "");
        bise_table_add(&table, "%s", shape_text(shape, t));
        bise_table_add(&table, "%s", t->name);
    }
    bise_table_put(&text, &table, 80);
    bise_print(ctx, "%s\n", bise_str_get(&text));
    bise_str_fini(&text);
    bise_table_fini(&table);
}

/* Everything a user wants to know before waiting: sizes, memory, time. */
void bise_job_print_plan(bise_context *ctx, const bise_plan *p, bool tensors)
{
    char in[32], out[32], memory[32];
    const char *path = bise_opt_str(ctx->args, "o", ".");
    const uint64_t bytes = bise_plan_bytes_out(p);
    if (tensors)
        print_tensors(ctx, p);
    bise_print(ctx, "tensors       %zu, %.3f B weights\n", p->n,
               (double)bise_plan_weights(p) * 1e-9);
    bise_print(ctx, "read          %s\n",
               bise_format_bytes(in, bise_plan_bytes_in(p)));
    bise_print(ctx, "write         %s in %zu file%s, %.3f bits per weight\n",
               bise_format_bytes(out, bytes), p->n_files,
               p->n_files == 1 ? "" : "s", bise_plan_bits(p));
    bise_print(ctx, "disk free     %s\n",
               bise_format_bytes(in, bise_disk_free(path)));
    bise_print(ctx, "memory        %s of buffers, %d threads\n",
               bise_format_bytes(memory, bise_run_memory(p, ctx->threads,
                                                         false)),
               ctx->threads);
    bise_print(ctx, "time          about %.1f s\n",
               estimate(p, ctx->threads));
}

/* ---- running ---- */

/* The keys common to convert, merge and quantize (cli.md 2), of both plans. */
static void set_counts(bise_context *ctx, const bise_job *j)
{
    const bise_plan *const plans[] = { &j->plan, &j->vision };
    uint64_t tensors = 0, in = 0, out = 0;
    for (int i = 0; i < (j->vision_path ? 2 : 1); i++) {
        tensors += plans[i]->n;
        in += bise_plan_bytes_in(plans[i]);
        out += bise_plan_bytes_out(plans[i]);
    }
    bise_result_set(ctx, "tensors", bise_json_new_int((int64_t)tensors));
    bise_result_set(ctx, "bytes_in", bise_json_new_int((int64_t)in));
    bise_result_set(ctx, "bytes_out", bise_json_new_int((int64_t)out));
}

/* Is any tensor rounded to F16? Its range is smaller than that of the types
 * models come in, so that what is lost is counted. */
static bool writes_half(const bise_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->tensors[i].dtype == BISE_DTYPE_F16 &&
            !bise_plan_is_raw(&p->tensors[i]))
            return true;
    return false;
}

/* Values that left the range of F16: of zero and of infinity, how many, in how
 * many tensors, and the tensor that has most. */
typedef struct half_loss {
    uint64_t values, tensors, most;
    const char *name;
} half_loss;

static void add_loss(half_loss *h, uint64_t n, const char *name)
{
    if (n > h->most) {
        h->most = n;
        h->name = name;
    }
    h->values += n;
    h->tensors += n > 0;
}

/* Add the losses of one plan; list gets a row for each tensor. */
static void add_losses(half_loss *zero, half_loss *over, bise_json *list,
                       const bise_plan *p, const bise_run_result *r)
{
    for (size_t i = 0; i < r->n_stats; i++) {
        const bise_run_stats *s = &r->stats[i];
        if (p->tensors[i].dtype != BISE_DTYPE_F16 ||
            s->flushed + s->overflowed == 0)
            continue;
        bise_json *t = bise_json_new_object();
        bise_json_set(t, "name", bise_json_new_string(p->tensors[i].name));
        bise_json_set(t, "flushed", bise_json_new_int((int64_t)s->flushed));
        bise_json_set(t, "overflowed",
                      bise_json_new_int((int64_t)s->overflowed));
        bise_json_append(list, t);
        add_loss(zero, s->flushed, p->tensors[i].name);
        add_loss(over, s->overflowed, p->tensors[i].name);
    }
}

/* The sums and rows in the result, the sums and the worst tensor on stderr. */
static void report_half(bise_context *ctx, const bise_job *j,
                        const bise_run_result *r, const bise_run_result *eye)
{
    bise_json *list = bise_json_new_array();
    half_loss zero = { 0 }, over = { 0 };
    add_losses(&zero, &over, list, &j->plan, r);
    add_losses(&zero, &over, list, &j->vision, eye);
    bise_result_set(ctx, "flushed", bise_json_new_int((int64_t)zero.values));
    bise_result_set(ctx, "overflowed",
                    bise_json_new_int((int64_t)over.values));
    bise_result_set(ctx, "f16", list);
    if (zero.values)
        bise_progress_say(ctx->progress, "note: %" PRIu64 " weights of %" PRIu64
                          " tensors became zero in F16, most in '%s': BF16 "
                          "keeps them", zero.values, zero.tensors, zero.name);
    if (over.values)
        bise_progress_say(ctx->progress, "warning: %" PRIu64 " weights of %"
                          PRIu64 " tensors became infinite in F16, most in "
                          "'%s': use BF16", over.values, over.tensors,
                          over.name);
}

/* One line for each file on stdout, the same as JSON. */
static void add_outputs(bise_context *ctx, bise_json *list,
                        const bise_run_result *r)
{
    for (size_t i = 0; i < r->n_outputs; i++) {
        bise_json *o = bise_json_new_object();
        char size[32];
        bise_json_set(o, "path", bise_json_new_string(r->outputs[i].path));
        bise_json_set(o, "bytes",
                      bise_json_new_int((int64_t)r->outputs[i].bytes));
        bise_json_append(list, o);
        bise_print(ctx, "%s  %s\n", r->outputs[i].path,
                   bise_format_bytes(size, r->outputs[i].bytes));
    }
}

/* Name of the GGUF inside an archive: that of the archive. */
static char *inner_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t n = strlen(base) - strlen(".tar.zst");
    bise_str s = { 0 };
    bise_str_add(&s, base, n);
    if (!bise_job_is_gguf(path))
        bise_str_puts(&s, ".gguf");
    return bise_str_take(&s);
}

/* The type that most bytes of the plan have. */
static const char *main_type(const bise_plan *p)
{
    uint64_t of[BISE_DTYPE_COUNT] = { 0 };
    int best = 0;
    for (size_t i = 0; i < p->n; i++) {
        const int t = (int)p->tensors[i].dtype;
        of[t] += bise_plan_tensor_bytes(&p->tensors[i]);
        best = of[t] > of[best] ? t : best;
    }
    return bise_dtype_get((bise_dtype)best)->name;
}

/* The card is made for these weights; that of the model is kept beside it,
 * since its attributions are (Apache-2.0, section 4 c). */
static bise_status add_cards(bise_job *j, const char *file, bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = BISE_OK;
    const bool had = bise_store_has_file(j->model.store, "README.md");
    const bise_packed_card c = {
        .lineage = j->plan.lineage, .name = j->model.base_name, .file = file,
        .type = main_type(&j->plan),
        .bits = bise_plan_bits(&j->plan), .base_card = had,
        .quantized = bise_plan_bits(&j->plan) < 16,
    };
    if (had)
        s = bise_store_file(j->model.store, "README.md", &text, err);
    if (s == BISE_OK && had)
        s = bise_plan_add_text(&j->plan, "BASE_README.md", bise_str_get(&text),
                               text.len, err);
    bise_str_clear(&text);
    bise_release_packed_card(&text, &c);
    if (s == BISE_OK)
        s = bise_str_ok(&text) ? bise_plan_add_text(&j->plan, "README.md",
                                                    bise_str_get(&text),
                                                    text.len, err)
                               : bise_fail_nomem(err);
    bise_str_fini(&text);
    return s;
}

/* Of a GGUF that is packed: cards, the licence and notices of its model.
 * Layouts that are directories have them already. */
static bise_status add_notices(bise_job *j, const char *file, bise_error *err)
{
    bise_store *store = j->model.store;
    bool licence = false;
    if (j->plan.kind != BISE_PLAN_GGUF)
        return BISE_OK;
    bise_status s = add_cards(j, file, err);
    for (size_t i = 0; i < bise_store_file_count(store) && s == BISE_OK; i++) {
        const char *name = bise_store_file_at(store, i);
        const bool is_licence = bise_lineage_is_licence(name);
        if (is_licence || bise_lineage_is_notice(name))
            s = bise_plan_add_copy(&j->plan, store, name, err);
        licence = licence || is_licence;
    }
    const char *text = bise_apache_licence();
    if (s == BISE_OK && !licence &&
        strcasecmp(bise_lineage_licence(j->plan.lineage), "apache-2.0") == 0)
        s = bise_plan_add_text(&j->plan, "LICENSE", text, strlen(text), err);
    return s;
}

/* Into a file or folder, or into an archive when -o is the name of one. */
static bise_status execute(bise_job *j, bise_run_options *o,
                           bise_run_result *result, bise_error *err)
{
    char *inner = NULL;
    bise_status s = BISE_OK;
    if (bise_packed_is(o->path)) {
        inner = inner_name(o->path);
        s = inner ? add_notices(j, inner, err) : bise_fail_nomem(err);
        o->archive = inner;
    }
    if (s == BISE_OK)
        s = bise_run(&j->plan, o, result, err);
    bise_free(inner);
    return s;
}

/* What would be done, instead of doing it. */
static bise_status show_plans(bise_job *j, bise_context *ctx, bool measure)
{
    uint64_t memory = bise_run_memory(&j->plan, ctx->threads, measure);
    double seconds = estimate(&j->plan, ctx->threads);
    bise_job_print_plan(ctx, &j->plan, ctx->verbose);
    if (j->vision_path) {
        const uint64_t more = bise_run_memory(&j->vision, ctx->threads, false);
        char size[32];
        memory = more > memory ? more : memory;
        seconds += estimate(&j->vision, ctx->threads);
        bise_print(ctx, "vision        %zu tensors, %s in %s\n", j->vision.n,
                   bise_format_bytes(size, bise_plan_bytes_out(&j->vision)),
                   j->vision_path);
    }
    bise_result_set(ctx, "outputs", bise_json_new_array());
    bise_result_set(ctx, "memory_bytes", bise_json_new_int((int64_t)memory));
    bise_result_set(ctx, "estimated_seconds", bise_json_new_real(seconds));
    return BISE_OK;
}

/* The layout is made here, after all types are final. */
bise_status bise_job_run(bise_job *j, bise_context *ctx, const char *stage,
                         bool measure, bise_run_result *result,
                         bise_error *err)
{
    bise_run_result eye = { 0 };
    bise_status s = bise_plan_layout(&j->plan, err);
    if (s == BISE_OK && j->vision_path)
        s = bise_plan_layout(&j->vision, err);
    if (s != BISE_OK)
        return s;
    set_counts(ctx, j);
    if (bise_opt_given(ctx->args, "plan"))
        return show_plans(j, ctx, measure);
    bise_run_options o = {
        .path = bise_opt_str(ctx->args, "o", NULL), .stage = stage,
        .force = ctx->force, .pool = ctx->pool,
        .measure = measure || writes_half(&j->plan),
        .progress = ctx->progress,
        .allow_nonfinite = bise_opt_given(ctx->args, "allow-nonfinite"),
    };
    s = execute(j, &o, result, err);
    if (s == BISE_OK && j->vision_path) {
        o.path = j->vision_path;
        o.archive = NULL;
        o.stage = "vision";
        o.measure = writes_half(&j->vision);
        s = bise_run(&j->vision, &o, &eye, err);
    }
    if (s == BISE_OK) {
        bise_json *list = bise_json_new_array();
        add_outputs(ctx, list, result);
        add_outputs(ctx, list, &eye);
        bise_result_set(ctx, "outputs", list);
    }
    if (s == BISE_OK && (writes_half(&j->plan) || writes_half(&j->vision)))
        report_half(ctx, j, result, &eye);
    bise_run_result_fini(&eye);
    return s;
}
