/* cmd_convert.c - bise convert: one layout to another, by name of the output
 * or --to, with the weights in the type asked for.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "cli/job.h"
#include "cli/packed.h"
#include "convert/convert.h"
#include "core/str.h"

static const bise_option options[] = {
    BISE_JOB_OPTIONS,
    { "dtype", BISE_OPT_CHOICE, "bf16|f16|f32|q8_0|keep",
      "type of the weight matrices", "keep", 0 },
    { "to", BISE_OPT_CHOICE, "hf|native|gguf",
      "layout of the output (OUT ending in .gguf is GGUF)", NULL, 0 },
    { "split-max-size", BISE_OPT_SIZE, "SIZE",
      "cut the weights into files of at most SIZE", NULL, 0 },
    { "vocab-size", BISE_OPT_STRING, "N|tokenizer",
      "cut embedding and head to N rows, or pad them with zeros", NULL, 0 },
    { "override-kv", BISE_OPT_LIST, "KEY=TYPE:VALUE",
      "set a key of the .gguf (TYPE int, float, bool, str)",
      NULL, 0 },
    { "remove-kv", BISE_OPT_LIST, "KEY",
      "leave out a key of the .gguf; bise.history holds the commands that made "
      "it", NULL, 0 },
    { "mmproj", BISE_OPT_STRING, "FILE",
      "write the vision part as a GGUF of its own", NULL, 0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* The layout asked for; a name ending in .gguf decides without --to. */
static bise_status layout(bise_layout *out, const bise_context *ctx,
                          const char *path, bise_error *err)
{
    const char *to = bise_opt_str(ctx->args, "to", NULL);
    const bool gguf = bise_job_is_gguf(path);
    *out = gguf ? BISE_TO_GGUF : BISE_TO_SAME;
    if (!to)
        return BISE_OK;
    *out = strcmp(to, "hf") == 0       ? BISE_TO_HF
           : strcmp(to, "native") == 0 ? BISE_TO_NATIVE
                                       : BISE_TO_GGUF;
    if (path && !(bise_packed_is(path) && !gguf) &&
        gguf != (*out == BISE_TO_GGUF))
        return bise_fail(err, BISE_EINVAL, "--to %s and the name '%s' do not "
                         "agree", to, path);
    return BISE_OK;
}

/* A folder named as output of a GGUF input means Hugging Face; an archive
 * can hold either. */
static bise_layout settle(bise_layout to, const bise_job *j, const char *path)
{
    if (to != BISE_TO_SAME || !path || bise_packed_is(path))
        return to;
    return bise_convert_layout_of(&j->model) == BISE_TO_GGUF ? BISE_TO_HF : to;
}

/* The vision file is a second plan over the same checkpoint. What can be
 * refused is, before the model is written. */
static bise_status plan_vision(bise_job *j, const bise_context *ctx,
                               const char *out, bise_dtype dtype,
                               bise_error *err)
{
    const char *path = bise_opt_str(ctx->args, "mmproj", NULL);
    bise_status s = BISE_OK;
    if (path && out && strcmp(path, out) == 0)
        return bise_fail(err, BISE_EINVAL, "-o and --mmproj are one file");
    if (path && !bise_opt_given(ctx->args, "plan"))
        s = bise_out_check(path, ctx->force, err);
    if (path && s == BISE_OK) {
        s = bise_convert_plan_mmproj(&j->vision, &j->model, dtype, err);
        j->vision_path = path;
    }
    return s;
}

/* GGUF has no float8 type: what was to be kept is BF16 there, and is said. */
static void note_float8(const bise_context *ctx, const bise_job *j,
                        const bise_convert_options *o)
{
    bool float8 = false;
    for (size_t i = 0; i < j->model.n; i++)
        float8 |= j->model.weights[i].scales != NULL;
    if (float8 && o->keep_fp8 && o->to == BISE_TO_GGUF)
        bise_progress_say(ctx->progress, "note: GGUF has no FP8, the weights "
                          "become BF16");
}

/* --override-kv, then --remove-kv, on the key-values of the plan. */
static bise_status edit_keys(bise_plan *p, const bise_context *ctx,
                             bise_error *err)
{
    int set = 0, gone = 0;
    const char *const *sets = bise_opt_list(ctx->args, "override-kv", &set);
    const char *const *keys = bise_opt_list(ctx->args, "remove-kv", &gone);
    bise_status s = BISE_OK;
    if ((set || gone) && p->kind != BISE_PLAN_GGUF)
        return bise_fail(err, BISE_EINVAL, "--%s edits keys of a .gguf, the "
                         "output is a directory", set ? "override-kv"
                                                      : "remove-kv");
    for (int i = 0; i < set && s == BISE_OK; i++)
        s = bise_convert_override(&p->meta, sets[i], err);
    for (int i = 0; i < gone && s == BISE_OK; i++)
        s = bise_convert_remove_key(&p->meta, keys[i], err);
    return s;
}

/* Options, model and adapters, plans, run. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    bise_job j = { 0 };
    bise_run_result r = { 0 };
    const char *path;
    const char *dtype = bise_opt_str(ctx->args, "dtype", NULL);
    bise_convert_options o = {
        .dtype = !dtype || strcmp(dtype, "keep") == 0
                     ? BISE_DTYPE_NONE : bise_dtype_by_name(dtype),
        .keep_fp8 = dtype && strcmp(dtype, "keep") == 0,
        .split_bytes = bise_opt_size(ctx->args, "split-max-size", 0),
        .progress = ctx->progress,
    };
    bise_status s = bise_job_output(&path, ctx, err);
    if (s == BISE_OK)
        s = layout(&o.to, ctx, path, err);
    if (s == BISE_OK)
        s = bise_job_open(&j, ctx, err);
    if (s == BISE_OK) {
        o.loras = j.list;
        o.n_loras = j.n_loras;
        o.to = settle(o.to, &j, path);
        note_float8(ctx, &j, &o);
        s = bise_vocabulary_settle(&o.vocab, &j.model,
                                   bise_opt_str(ctx->args, "vocab-size", NULL),
                                   ctx->progress, err);
    }
    if (s == BISE_OK)
        s = plan_vision(&j, ctx, path, o.dtype, err);
    if (s == BISE_OK)
        s = bise_convert_plan(&j.plan, &j.model, &o, err);
    if (s == BISE_OK)
        s = bise_job_record(&j, ctx, err);
    if (s == BISE_OK)
        s = edit_keys(&j.plan, ctx, err);
    if (s == BISE_OK)
        s = bise_job_run(&j, ctx, "convert", false, &r, err);
    bise_run_result_fini(&r);
    bise_job_close(&j);
    return s;
}

const bise_command bise_cmd_convert = {
    .name = "convert",
    .args = "MODEL -o OUT",
    .help = "convert a model from one layout to another",
    .details = "MODEL is a Hugging Face directory, a native directory, a .gguf "
               "or an archive. Adapters are merged in float32 and rounded "
               "once. Without --dtype every weight keeps its type, except that "
               "FP8 becomes BF16; --dtype keep leaves FP8 as it is, with its "
               "scales under the names of the output's layout. Vision towers "
               "go along to directories; --mmproj writes them for a .gguf. "
               "A directory gets the tokenizer files of its layout, out of a "
               "GGUF's vocabulary too. What becomes zero in F16 is counted; "
               "what overflows is an error, with --allow-nonfinite counted. "
               "-o NAME.tar.zst packs the output as it is made "
               "(NAME.gguf.tar.zst: as GGUF).",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
