/* quantize.c - see quantize.h. The order matters: tensors are sorted first,
 * since the counters of the mixture rules run in the output's order.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/quantize.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/regex.h"

/* Split at the last "=", since a pattern may hold one. The pattern is
 * compiled once here only to report its faults with the option. */
bise_status bise_type_rule_parse(bise_type_rule *r, const char *text,
                                 bise_arena *a, bise_error *err)
{
    const char *eq = strrchr(text, '=');
    if (!eq || eq == text)
        return bise_fail(err, BISE_EINVAL, "'%s' is not REGEX=TYPE", text);
    r->dtype = bise_dtype_by_name(eq + 1);
    if (r->dtype == BISE_DTYPE_NONE || bise_dtype_get(r->dtype)->gguf_id < 0)
        return bise_fail(err, BISE_EINVAL, "'%s' is not a tensor type of GGUF",
                         eq + 1);
    r->pattern = bise_arena_strndup(a, text, (size_t)(eq - text));
    if (!r->pattern)
        return bise_fail_nomem(err);
    bise_regex *re = NULL;
    const bise_status s = bise_regex_new(&re, r->pattern, strlen(r->pattern),
                                         err);
    bise_regex_free(re);
    return s;
}

/* Block number of "blk.N.", -1 outside of blocks. */
static int block_of(const char *name)
{
    int n = -1;
    return sscanf(name, "blk.%d.", &n) == 1 ? n : -1;
}

/* The order of llama-quantize: outside tensors, then blocks, by name. */
static int by_place(const void *a, const void *b)
{
    const bise_plan_tensor *x = a, *y = b;
    const int bx = block_of(x->name), by = block_of(y->name);
    if (bx != by)
        return bx < by ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* With latent attention the file has one key head (gguf.md 6). */
static bise_mixture_model model_of(const bise_plan *p, const bise_config *g,
                                   const bise_quantize_options *o)
{
    size_t n = 0;
    const char *arch = bise_gguf_str(&p->meta, "general.architecture", &n);
    bise_mixture_model m = {
        .layers = g->L, .heads = g->H, .kv_heads = g->kv_lora > 0 ? 1 : g->K,
        .experts = g->E, .llama = arch && n == 5 && !memcmp(arch, "llama", 5),
        .has_output = bise_plan_find(p, "output.weight") != NULL,
        .has_imatrix = o->imatrix != NULL,
    };
    for (size_t i = 0; i < p->n; i++)
        m.n_v += bise_mixture_is_v(p->tensors[i].name);
    return m;
}

/* Type by options first, then by the rules (gguf.md 6.3). The rules run for
 * every tensor, because they count. */
static bise_dtype choose(const bise_plan_tensor *t,
                         const bise_quantize_options *o,
                         const bise_mixture_model *m, bise_mixture_state *st,
                         bise_regex *const *patterns)
{
    const bise_dtype base = o->mixture->base;
    const bool embedding = strcmp(t->name, "token_embd.weight") == 0;
    const bool output = strcmp(t->name, "output.weight") == 0 ||
                        (embedding && !m->has_output);
    bise_dtype type = bise_mixture_type(o->mixture, m, st, t->name, t->n_dims,
                                        bise_stream_cols(t->stream));
    if (o->pure)
        type = base;
    for (size_t i = 0; i < o->n_rules && bise_dtype_is_quant(base); i++)
        if (bise_regex_search(patterns[i], t->name)) {
            type = o->rules[i].dtype;
            break;
        }
    if (embedding && o->embedding_type != BISE_DTYPE_NONE)
        type = o->embedding_type;
    else if (output && o->output_type != BISE_DTYPE_NONE)
        type = o->output_type;
    return type;
}

/* The column weights of a tensor, checked against its shape. */
static bise_status attach_imatrix(bise_plan *p, bise_plan_tensor *t,
                                  const bise_quantize_options *o, int *used,
                                  bise_error *err)
{
    const bise_imatrix_entry *e =
        o->imatrix ? bise_imatrix_find(o->imatrix, t->name) : NULL;
    if (!e || !bise_dtype_is_quant(t->dtype))
        return BISE_OK;
    const uint64_t cols = bise_stream_cols(t->stream);
    const uint64_t n_mat = t->n_dims >= 3 ? t->dims[0] : 1;
    if (e->cols * e->n_mat != cols * n_mat) {
        if (strcmp(t->name, "token_embd.weight") == 0)
            return BISE_OK;
        bise_status s = bise_fail(err, BISE_EFORMAT, "the imatrix has %" PRIu64
                                  " values, the tensor needs %" PRIu64,
                                  e->cols * e->n_mat, cols * n_mat);
        s = bise_error_hint(err, "it was made for another model");
        s = bise_error_in(err, o->imatrix_path, t->name);
        return s;
    }
    t->imatrix = bise_imatrix_weights(e, &p->arena);
    t->imatrix_n = n_mat;
    (*used)++;
    return t->imatrix ? BISE_OK : bise_fail_nomem(err);
}

/* Refuse what cannot be done well: types that need an imatrix, and encoding
 * twice. */
static bise_status check_tensor(const bise_plan_tensor *t,
                                const bise_quantize_options *o,
                                bise_dtype stored, bise_error *err)
{
    bise_status s = BISE_OK;
    const bool ends = strcmp(t->name, "output.weight") == 0 ||
                      strcmp(t->name, "token_embd.weight") == 0;
    if (t->dtype == BISE_DTYPE_Q2_K && o->mixture->file_type == 21 &&
        !t->imatrix && !ends) {
        s = bise_fail(err, BISE_EUNSUPPORTED, "Q2_K in a Q2_K_S file needs an "
                      "imatrix");
        s = bise_error_hint(err, "make one with bise calibrate");
    } else if (stored != BISE_DTYPE_NONE && bise_dtype_is_quant(stored) &&
               stored != t->dtype && !o->allow_requantize) {
        s = bise_fail(err, BISE_EUNSUPPORTED,
                      "the input is quantized already (%s)",
                      bise_dtype_get(stored)->name);
        s = bise_error_hint(err, "start from the original weights, or give "
                            "--allow-requantize");
    }
    return s == BISE_OK ? s : bise_error_in(err, NULL, t->name);
}

/* Compile the patterns of --tensor-type; the array ends with NULL. */
static bise_status compile_rules(bise_regex ***out,
                                 const bise_quantize_options *o,
                                 bise_error *err)
{
    bise_regex **list = bise_alloc_array(o->n_rules + 1, sizeof *list);
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    for (size_t i = 0; i < o->n_rules && s == BISE_OK; i++)
        s = bise_regex_new(&list[i], o->rules[i].pattern,
                           strlen(o->rules[i].pattern), err);
    *out = list;
    return s;
}

/* The list ends with NULL, also after a failure half way. */
static void free_rules(bise_regex **list)
{
    for (size_t i = 0; list && list[i]; i++)
        bise_regex_free(list[i]);
    bise_free(list);
}

/* The same questions as choose(), without the mixture. */
bise_status bise_quantize_fixed(bool *fixed, const bise_plan *p,
                                const bise_quantize_options *o,
                                bise_error *err)
{
    bise_regex **patterns = NULL;
    const bise_status s = compile_rules(&patterns, o, err);
    const bool has_output = bise_plan_find(p, "output.weight") != NULL;
    for (size_t i = 0; i < p->n && s == BISE_OK; i++) {
        const char *name = p->tensors[i].name;
        const bool embedding = strcmp(name, "token_embd.weight") == 0;
        const bool output = strcmp(name, "output.weight") == 0 ||
                            (embedding && !has_output);
        fixed[i] = !bise_mixture_quantizes(name, p->tensors[i].n_dims) ||
                   (embedding && o->embedding_type != BISE_DTYPE_NONE) ||
                   (output && o->output_type != BISE_DTYPE_NONE);
        for (size_t k = 0; k < o->n_rules; k++)
            fixed[i] = fixed[i] || bise_regex_search(patterns[k], name);
    }
    free_rules(patterns);
    return s;
}

/* What the tensors became on the way. */
typedef struct tally {
    int fallbacks, imatrix;
} tally;

/* One pass in file order, because rules count. A tensor that is not
 * quantized keeps the type of the plan: F32 for norms and routers. */
static bise_status retype(bise_plan *p, const bise_mixture_model *m,
                          const bise_quantize_options *o, tally *count,
                          bise_error *err)
{
    bise_mixture_state st = { 0 };
    bise_regex **patterns = NULL;
    bise_status s = compile_rules(&patterns, o, err);
    for (size_t i = 0; i < p->n && s == BISE_OK; i++) {
        bise_plan_tensor *t = &p->tensors[i];
        const bise_dtype stored = bise_stream_dtype(t->stream);
        if (!bise_mixture_quantizes(t->name, t->n_dims))
            continue;
        const bise_dtype want = choose(t, o, m, &st, patterns);
        const uint64_t cols = bise_stream_cols(t->stream);
        t->dtype = bise_mixture_fallback(want, cols);
        if (t->dtype == BISE_DTYPE_NONE) {
            s = bise_fail(err, BISE_EUNSUPPORTED, "rows of %" PRIu64
                          " weights: type %s needs a multiple of %" PRIu32
                          " and has no fallback", cols,
                          bise_dtype_get(want)->name,
                          bise_dtype_get(want)->block_len);
            s = bise_error_in(err, NULL, t->name);
            break;
        }
        count->fallbacks += t->dtype != want;
        s = attach_imatrix(p, t, o, &count->imatrix, err);
        if (s == BISE_OK)
            s = check_tensor(t, o, stored, err);
    }
    free_rules(patterns);
    return s;
}

/* Keys as llama-quantize leaves them: version and file type last, then where
 * the importance came from. */
static void label(bise_plan *p, const bise_quantize_options *o)
{
    bise_gguf_meta *m = &p->meta;
    bise_gguf_set_str(m, "general.quantized_by", "bise " PACKAGE_VERSION);
    bise_gguf_set_u32(m, "general.quantization_version", 2);
    bise_gguf_to_end(m, "general.quantization_version");
    bise_gguf_set_u32(m, "general.file_type",
                      (uint32_t)o->mixture->file_type);
    bise_gguf_to_end(m, "general.file_type");
    if (!o->imatrix)
        return;
    if (o->imatrix_path)
        bise_gguf_set_strn(m, "quantize.imatrix.file",
                           bise_path_base(o->imatrix_path),
                           strnlen(bise_path_base(o->imatrix_path), 127));
    if (o->imatrix->n_datasets)
        bise_gguf_set_strn(m, "quantize.imatrix.dataset",
                           bise_path_base(o->imatrix->datasets[0]),
                           strnlen(bise_path_base(o->imatrix->datasets[0]),
                                   127));
    bise_gguf_set_u32(m, "quantize.imatrix.entries_count",
                      (uint32_t)o->imatrix->n);
    bise_gguf_set_u32(m, "quantize.imatrix.chunks_count", o->imatrix->chunks);
}

/* An imatrix that fits no tensor is another model's, and silently ignoring
 * it would cost quality without a word. */
bise_status bise_quantize_plan(bise_plan *p, const bise_config *g,
                               const bise_quantize_options *o, int *fallbacks,
                               bise_error *err)
{
    tally count = { 0, 0 };
    qsort(p->tensors, p->n, sizeof *p->tensors, by_place);
    const bise_mixture_model m = model_of(p, g, o);
    p->check_finite = true;
    bise_status s = retype(p, &m, o, &count, err);
    if (s == BISE_OK && o->imatrix && count.imatrix == 0 &&
        bise_dtype_is_quant(o->mixture->base)) {
        s = bise_fail(err, BISE_EFORMAT, "no tensor of the model has an entry "
                      "in the imatrix");
        s = bise_error_hint(err, "it was made for another model");
        s = bise_error_in(err, o->imatrix_path, NULL);
    }
    if (s != BISE_OK)
        return s;
    label(p, o);
    if (fallbacks)
        *fallbacks = count.fallbacks;
    return p->meta.failed ? bise_fail_nomem(err) : BISE_OK;
}
