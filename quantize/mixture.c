/* mixture.c - see mixture.h: the table of mixtures.def and the few rules that
 * cut across it (output, embedding, eight experts, the 70B class).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/mixture.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/str.h"

/* When a rule applies; i is the running index of its category, n the blocks. */
typedef enum {
    NEVER, ALWAYS, GQA4, MORE, FIRST2, FIRST4, EIGHTH, SIXTEENTH,
    EIGHTH_IMATRIX, EIGHTH_PLAIN, EXPERTS
} condition;

typedef struct rule {
    condition when;
    bise_dtype yes, no;
} rule;

enum { AT_V, AT_K, AT_O, AT_DOWN, AT_COUNT };

typedef struct mixture_row {
    bise_mixture head;
    rule rules[AT_COUNT];
} mixture_row;

#define R(when, yes, no) { when, BISE_DTYPE_##yes, BISE_DTYPE_##no }
static const mixture_row rows[] = {
#define BISE_MIXTURE(name, file_type, base, v, k, o, down) \
    { { name, file_type, BISE_DTYPE_##base }, { v, k, o, down } },
#include "quantize/mixtures.def"
#undef BISE_MIXTURE
};
#undef R

#define ROWS (sizeof rows / sizeof *rows)

/* Names that llama-quantize takes for another one. */
static const struct { const char *alias, *name; } aliases[] = {
    { "Q3_K", "Q3_K_M" }, { "Q4_K", "Q4_K_M" }, { "Q5_K", "Q5_K_M" },
    { "MXFP4", "MXFP4_MOE" },
};

/* Aliases first: Q4_K alone means the mixture Q4_K_M, as for llama-
 * quantize; --pure gives the plain type. */
const bise_mixture *bise_mixture_find(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcasecmp(name, aliases[i].alias) == 0)
            name = aliases[i].name;
    for (size_t i = 0; i < ROWS; i++)
        if (strcasecmp(name, rows[i].head.name) == 0)
            return &rows[i].head;
    return NULL;
}

/* For lists in messages and tests. */
const bise_mixture *bise_mixture_at(size_t i)
{
    return i < ROWS ? &rows[i].head : NULL;
}

/* Substring tests like those of the reference, so that a tensor it would
 * leave alone is left alone. */
bool bise_mixture_quantizes(const char *name, int n_dims)
{
    static const char *const kept[] = {
        "_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d", ".patch_embd",
        ".position_embd", ".patch_merger", "attn_rel_b.weight",
    };
    if (n_dims < 2 || !bise_ends_with(name, "weight"))
        return false;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strstr(name, kept[i]))
            return false;
    return true;
}

/* kv_b counts as a value because it makes the values of latent attention. */
bool bise_mixture_is_v(const char *name)
{
    return strstr(name, "attn_v.weight") || strstr(name, "attn_qkv.weight") ||
           strstr(name, "attn_kv_b.weight");
}

/* One step only: the substitute has blocks of 32; rows that even 32 does
 * not divide become F16. Types of 32 themselves have no substitute. */
bise_dtype bise_mixture_fallback(bise_dtype t, uint64_t cols)
{
    if (cols % bise_dtype_get(t)->block_len == 0)
        return t;
    bise_dtype other;
    switch (t) {
    case BISE_DTYPE_IQ1_S: case BISE_DTYPE_IQ1_M: case BISE_DTYPE_IQ2_XXS:
    case BISE_DTYPE_IQ2_XS: case BISE_DTYPE_IQ2_S: case BISE_DTYPE_IQ3_XXS:
    case BISE_DTYPE_IQ3_S: case BISE_DTYPE_IQ4_XS:
        other = BISE_DTYPE_IQ4_NL;
        break;
    case BISE_DTYPE_Q2_K: case BISE_DTYPE_Q3_K: case BISE_DTYPE_TQ1_0:
    case BISE_DTYPE_TQ2_0: case BISE_DTYPE_Q2_0:
        other = BISE_DTYPE_Q4_0;
        break;
    case BISE_DTYPE_Q4_K: other = BISE_DTYPE_Q5_0; break;
    case BISE_DTYPE_Q5_K: other = BISE_DTYPE_Q5_1; break;
    case BISE_DTYPE_Q6_K: other = BISE_DTYPE_Q8_0; break;
    default: return BISE_DTYPE_NONE;
    }
    return cols % bise_dtype_get(other)->block_len == 0 ? other
                                                        : BISE_DTYPE_F16;
}

/* use_more_bits of the reference: the ends and every third in between. */
static bool more(int32_t i, int32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

/* Integer divisions as in the reference: with fewer than 8 blocks n / 8 is
 * 0. */
static bool holds(const rule *r, const bise_mixture_model *m, int32_t i,
                  int32_t n, int n_dims)
{
    switch (r->when) {
    case NEVER: return false;
    case ALWAYS: return true;
    case GQA4: return m->kv_heads > 0 && m->heads / m->kv_heads >= 4;
    case MORE: return more(i, n);
    case FIRST2: return i < 2;
    case FIRST4: return i < 4;
    case EIGHTH: return i < n / 8;
    case SIXTEENTH: return i < n / 16;
    case EIGHTH_IMATRIX: return m->has_imatrix && i < n / 8;
    case EIGHTH_PLAIN: return !m->has_imatrix && i < n / 8;
    case EXPERTS: return n_dims >= 3;
    }
    return false;
}

/* NONE in a rule stands for the mixture's default type. */
static bise_dtype apply(const mixture_row *row, int at,
                        const bise_mixture_model *m, int32_t i, int32_t n,
                        int n_dims)
{
    const rule *r = &row->rules[at];
    const bise_dtype t = holds(r, m, i, n, n_dims) ? r->yes : r->no;
    return t == BISE_DTYPE_NONE ? row->head.base : t;
}

/* output.weight, or the embedding that stands for it. */
static bise_dtype output_type(const bise_mixture *m, uint64_t cols)
{
    if (m->base == BISE_DTYPE_MXFP4 || m->base == BISE_DTYPE_Q8_0 ||
        cols % bise_dtype_get(m->base)->block_len)
        return BISE_DTYPE_Q8_0;
    return BISE_DTYPE_Q6_K;
}

/* Ternary types are too coarse for an embedding. */
static bise_dtype embedding_type(const bise_mixture *m)
{
    if (m->base == BISE_DTYPE_TQ1_0 || m->base == BISE_DTYPE_TQ2_0 ||
        m->base == BISE_DTYPE_Q2_0)
        return BISE_DTYPE_Q4_K;
    return m->file_type == 38 ? BISE_DTYPE_Q8_0 : m->base;
}

/* Values are few and matter much: hence the special cases. */
static bise_dtype v_type(const mixture_row *row, const bise_mixture_model *m,
                         bise_mixture_state *st, int n_dims)
{
    bise_dtype t = apply(row, AT_V, m, st->i_v, m->n_v, n_dims);
    /* The 70B class shares each value among many heads. */
    if (m->llama && m->layers == 80 && m->heads != m->kv_heads &&
        (t == BISE_DTYPE_Q3_K || t == BISE_DTYPE_Q4_K))
        t = BISE_DTYPE_Q5_K;
    if (m->experts == 8)
        t = BISE_DTYPE_Q8_0;
    st->i_v++;
    return t;
}

/* The list of file types is that of the reference for Mixtral. */
static bise_dtype o_type(const mixture_row *row, const bise_mixture_model *m,
                         int n_dims)
{
    switch (m->experts == 8 ? row->head.file_type : -1) {
    case 10: case 11: case 12: case 14: case 15: case 25: case 30:
        return BISE_DTYPE_Q5_K;
    default:
        return apply(row, AT_O, m, 0, m->layers, n_dims);
    }
}

/* The counter advances for every tensor, also those of experts. */
static bise_dtype down_type(const mixture_row *row,
                            const bise_mixture_model *m,
                            bise_mixture_state *st, const char *name,
                            int n_dims)
{
    int32_t i = st->i_down++;
    /* With experts several tensors share a block: its number counts. */
    if (m->experts > 1 && sscanf(name, "blk.%d.", &i) != 1)
        i = 0;
    return apply(row, AT_DOWN, m, i, m->layers, n_dims);
}

/* The order of the tests is that of llama_tensor_get_type: output and
 * embedding by name first, then the categories. */
bise_dtype bise_mixture_type(const bise_mixture *m,
                             const bise_mixture_model *model,
                             bise_mixture_state *state, const char *name,
                             int n_dims, uint64_t cols)
{
    const mixture_row *row = &rows[0];
    for (size_t i = 0; i < ROWS; i++)
        if (&rows[i].head == m)
            row = &rows[i];
    if (!bise_dtype_is_quant(m->base))
        return m->base;
    const bool embedding = strcmp(name, "token_embd.weight") == 0 ||
                           strcmp(name, "per_layer_token_embd.weight") == 0;
    if (strcmp(name, "output.weight") == 0 ||
        (embedding && !model->has_output))
        return output_type(m, cols);
    if (embedding)
        return embedding_type(m);
    if (bise_mixture_is_v(name))
        return v_type(row, model, state, n_dims);
    if (strstr(name, "attn_k.weight"))
        return model->experts == 8
                   ? BISE_DTYPE_Q8_0
                   : apply(row, AT_K, model, 0, model->layers, n_dims);
    if (strstr(name, "attn_output.weight"))
        return o_type(row, model, n_dims);
    if (strstr(name, "ffn_down"))
        return down_type(row, model, state, name, n_dims);
    if (m->file_type == 38)     /* MXFP4_MOE: experts only */
        return n_dims >= 3 ? BISE_DTYPE_MXFP4 : BISE_DTYPE_Q8_0;
    return m->base;
}
