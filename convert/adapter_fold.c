/* adapter_fold.c - an adapter with one rank and one plain alpha / r for all of
 * its modules, for tools that read one number: scales that differ go into B,
 * smaller ranks are padded with zeros. The product scale B A stays the same
 * (equal bits where the factors are powers of two).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "convert/adapter.h"
#include "core/mem.h"

/* Values of one module into the padded one. */
static void fill(bise_lora_module *to, const bise_lora_module *from)
{
    const size_t r = (size_t)from->r, big = (size_t)to->r;
    const float factor = from->scale / to->scale;
    memcpy(to->a, from->a, r * (size_t)from->in * sizeof *to->a);
    for (size_t i = 0; i < (size_t)from->out; i++)
        for (size_t j = 0; j < r; j++)
            to->b[i * big + j] = from->b[i * r + j] * factor;
    if (from->magnitude)
        memcpy(to->magnitude, from->magnitude,
               (size_t)from->out * sizeof *to->magnitude);
}

/* Whole tensors are copied as they are: out owns its own. */
static bise_status copy_saved(bise_lora *to, const bise_lora *from,
                              bise_error *err)
{
    to->saved = bise_alloc_array(from->n_saved + 1, sizeof *to->saved);
    if (!to->saved)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < from->n_saved; i++) {
        bise_lora_saved *v = &to->saved[i];
        *v = from->saved[i];
        v->w = bise_alloc_array(v->n, sizeof *v->w);
        if (!v->w)
            return bise_fail_nomem(err);
        to->n_saved++;
        memcpy(v->w, from->saved[i].w, v->n * sizeof *v->w);
    }
    return BISE_OK;
}

/* Magnitudes of DoRA are independent of the scale, so they are copied as they
 * are; the result is never rsLoRA, its alpha already is the plain one. */
bise_status bise_adapter_uniform(bise_lora *out, const bise_lora *in,
                                 bise_error *err)
{
    int32_t r = 1;
    *out = (bise_lora){ .dropout = in->dropout, .dora = in->dora,
                        .wrapper = in->wrapper, .format = in->format };
    memcpy(out->base_name, in->base_name, sizeof out->base_name);
    out->lineage = bise_json_ref(in->lineage);
    bise_lora_module *m = bise_alloc_array(in->n + 1, sizeof *m);
    if (!m) {
        bise_lora_fini(out);
        return bise_fail_nomem(err);
    }
    for (size_t i = 0; i < in->n; i++) {
        m[i] = in->modules[i];
        r = m[i].r > r ? m[i].r : r;
    }
    /* The first module's scale for all: one factor is then exactly 1. */
    for (size_t i = 0; i < in->n; i++) {
        m[i].r = r;
        m[i].alpha = (double)in->modules[0].scale * r;
    }
    bise_status s = bise_lora_alloc(out, m, in->n, err);
    for (size_t i = 0; s == BISE_OK && i < in->n; i++)
        fill(&out->modules[i], &in->modules[i]);
    if (s == BISE_OK)
        s = copy_saved(out, in, err);
    bise_free(m);
    if (s != BISE_OK)
        bise_lora_fini(out);
    return s;
}
