/* calibrate.c - see calibrate.h. Layers that share an input (q, k, v; gate,
 * up) arrive one by one and get an entry each, as the reference writes them.
 * Columns are cut in fixed blocks for the threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/calibrate.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "pipeline/check.h"

#define BLOCK 256 /* columns of a task */

/* Sums of one role of one layer; experts one after another. */
typedef struct entry {
    double *sums;       /* [n_mat, cols], NULL until the first rows */
    double *counts;     /* [n_mat] */
    int32_t cols, n_mat;
} entry;

struct bise_collector {
    bise_config config;   /* a copy of the numbers; json is not used */
    bise_pool *pool;
    entry *entries;       /* [L, BISE_ROLE_COUNT] */
    uint64_t token;
};

/* One call of the tap, for the tasks. */
typedef struct addition {
    double *sums;
    const float *x;
    int32_t T, in;
} addition;

/* Entries are made at the first rows of a layer: only then its columns are
 * known, and a model's unused roles cost nothing. */
bise_status bise_collector_new(bise_collector **out, const bise_config *g,
                               bise_pool *pool, bise_error *err)
{
    bise_collector *c = bise_alloc(sizeof *c);
    if (!c || !(c->entries = bise_alloc_array((size_t)g->L * BISE_ROLE_COUNT,
                                              sizeof *c->entries))) {
        bise_free(c);
        return bise_fail_nomem(err);
    }
    c->config = *g;
    c->config.json = NULL;
    c->pool = pool;
    *out = c;
    return BISE_OK;
}

/* NULL is fine. */
void bise_collector_free(bise_collector *c)
{
    if (!c)
        return;
    for (int32_t i = 0; i < c->config.L * BISE_ROLE_COUNT; i++) {
        bise_free(c->entries[i].sums);
        bise_free(c->entries[i].counts);
    }
    bise_free(c->entries);
    bise_free(c);
}

/* Only for messages; the sums do not depend on it. */
void bise_collector_at(bise_collector *c, uint64_t token)
{
    c->token = token;
}

/* Rows in order inside a block of columns: the sum of a column is the same
 * for any number of threads. */
static void add_block(void *ctx, size_t index, int worker)
{
    const addition *a = ctx;
    const int32_t from = (int32_t)index * BLOCK;
    const int32_t to = from + BLOCK < a->in ? from + BLOCK : a->in;
    (void)worker;
    for (int32_t t = 0; t < a->T; t++) {
        const float *row = a->x + (size_t)t * (size_t)a->in;
        for (int32_t i = from; i < to; i++)
            a->sums[i] += (double)row[i] * row[i];
    }
}

/* Name of the weight in GGUF; experts share the stack's. */
static bool name_of(char out[192], const bise_config *g, bise_role role)
{
    role.expert = -1;
    return bise_role_name_in(out, role, BISE_NAMES_GGUF, g->family);
}

/* The column in the message is that of the layer's input; the token counts
 * from the start of the data. */
bise_status bise_check_inputs(const bise_config *g, bise_role role,
                              const float *x, int32_t T, int32_t in,
                              uint64_t token, bise_error *err)
{
    const uint64_t at = bise_find_nonfinite(x, (uint64_t)T * (uint64_t)in);
    if (at == UINT64_MAX)
        return BISE_OK;
    char name[192] = "?";
    (void)name_of(name, g, role);
    bise_status s = bise_fail(err, BISE_EFORMAT, "the input of layer %d at "
                              "token %" PRIu64 ", column %" PRIu64 " is %s",
                              (int)role.layer, token + at / (uint64_t)in,
                              at % (uint64_t)in,
                              isnan(x[at]) ? "NaN" : "infinite");
    s = bise_error_in(err, NULL, name);
    return s;
}

/* Matrices of the stack that a role is one of: experts, or the heads of latent
 * attention's k_b and v_b. */
static int32_t matrices(const bise_collector *c, bise_role role)
{
    if (role.kind == BISE_ROLE_K_B || role.kind == BISE_ROLE_V_B)
        return c->config.H;
    return role.expert >= 0 ? c->config.E : 1;
}

/* Called by the graph before each linear layer, on one thread. Experts
 * share an entry and have a slice each. */
bise_status bise_collector_tap(void *ctx, bise_role role, const float *x,
                               int32_t T, int32_t in, bise_error *err)
{
    bise_collector *c = ctx;
    if (role.layer < 0 || role.layer >= c->config.L || T <= 0)
        return BISE_OK;             /* the head is not collected */
    const bise_status s = bise_check_inputs(&c->config, role, x, T, in,
                                            c->token, err);
    if (s != BISE_OK)
        return s;
    entry *e = &c->entries[role.layer * BISE_ROLE_COUNT + (int)role.kind];
    const int32_t n_mat = matrices(c, role);
    if (!e->sums) {
        e->cols = in;
        e->n_mat = n_mat;
        e->sums = bise_alloc_array((size_t)in * (size_t)n_mat, sizeof(double));
        e->counts = bise_alloc_array((size_t)n_mat, sizeof(double));
        if (!e->sums || !e->counts)
            return bise_fail_nomem(err);
    }
    const int32_t k = role.expert >= 0 ? role.expert : 0;
    if (e->cols != in || k >= e->n_mat)
        return bise_fail(err, BISE_EINVAL, "rows of %d columns, %d before",
                         (int)in, (int)e->cols);
    addition a = { .sums = e->sums + (size_t)k * (size_t)in, .x = x, .T = T,
                   .in = in };
    bise_pool_run(c->pool, (size_t)(in + BLOCK - 1) / BLOCK, add_block, &a);
    e->counts[k] += T;
    return BISE_OK;
}

/* Add one entry to m under a name. */
static bise_status take_entry(const entry *e, const char *name,
                              bise_imatrix *m, bise_error *err)
{
    bise_imatrix_entry *to = NULL;
    for (size_t i = 0; i < m->n && !to; i++)
        if (strcmp(m->entries[i].name, name) == 0)
            to = &m->entries[i];
    if (!to)
        to = bise_imatrix_add(m, name, (uint64_t)e->cols, (uint64_t)e->n_mat);
    if (!to)
        return bise_fail_nomem(err);
    if (to->cols != (uint64_t)e->cols || to->n_mat != (uint64_t)e->n_mat) {
        bise_status s = bise_fail(err, BISE_EFORMAT, "the imatrix has %" PRIu64
                                  " columns, the model %d", to->cols,
                                  (int)e->cols);
        s = bise_error_in(err, NULL, name);
        return s;
    }
    for (uint64_t i = 0; i < to->cols * to->n_mat; i++)
        to->sums[i] = (float)(to->sums[i] + e->sums[i]);
    for (uint64_t k = 0; k < to->n_mat; k++)
        to->counts[k] = (float)(to->counts[k] + e->counts[k]);
    return BISE_OK;
}

/* In layer order; saving sorts by name. */
bise_status bise_collector_take(const bise_collector *c, bise_imatrix *m,
                                bise_error *err)
{
    bise_status s = BISE_OK;
    for (int32_t l = 0; l < c->config.L; l++)
        for (int k = 0; k < BISE_ROLE_COUNT && s == BISE_OK; k++) {
            const entry *e = &c->entries[l * BISE_ROLE_COUNT + k];
            char name[192];
            const bise_role role = { (bise_role_kind)k, l, -1 };
            if (e->sums && name_of(name, &c->config, role))
                s = take_entry(e, name, m, err);
        }
    return s;
}
