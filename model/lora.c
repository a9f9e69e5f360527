/* lora.c - adapters in memory: buffers, the scale rule, and new adapters with
 * their choice of targets. Values of all modules lie in one buffer, gradients
 * in another, so that the optimizer walks two arrays and a checkpoint is one
 * write. Reading is lora_load.c, writing lora_save.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/regex.h"
#include "core/rng.h"
#include "core/str.h"
#include "model/family.h"
#include "model/peft.h"

#define MAX_RANK 4096

/* Computed in double and rounded once: PEFT multiplies by a Python float. */
float bise_lora_scale(double alpha, int32_t r, bool rslora)
{
    return (float)(alpha / (rslora ? sqrt((double)r) : (double)r));
}

/* Floats of one module: A, B and, for DoRA, the magnitudes. */
static size_t module_size(const bise_lora_module *m, bool dora)
{
    return (size_t)m->r * ((size_t)m->in + (size_t)m->out) +
           (dora ? (size_t)m->out : 0);
}

/* Point every module into the two buffers. */
static void place(bise_lora *l)
{
    size_t at = 0;
    for (size_t i = 0; i < l->n; i++) {
        bise_lora_module *m = &l->modules[i];
        const size_t na = (size_t)m->r * (size_t)m->in;
        const size_t nb = (size_t)m->r * (size_t)m->out;
        m->a = l->values + at;
        m->b = m->a + na;
        m->magnitude = l->dora ? m->b + nb : NULL;
        if (l->grads) {
            m->da = l->grads + at;
            m->db = m->da + na;
            m->dmagnitude = l->dora ? m->db + nb : NULL;
        }
        at += module_size(m, l->dora);
    }
}

/* One buffer for all values; sizes were bounded by rank and shape checks. */
bise_status bise_lora_alloc(bise_lora *l, const bise_lora_module *modules,
                            size_t n, bise_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += module_size(&modules[i], l->dora);
    l->modules = bise_alloc_array(n, sizeof *modules);
    l->values = total < SIZE_MAX / sizeof(float)
                    ? bise_alloc_aligned(total * sizeof(float)) : NULL;
    if (!l->modules || !l->values) {
        bise_lora_fini(l);
        return bise_fail_nomem(err);
    }
    if (n)
        memcpy(l->modules, modules, n * sizeof *modules);
    l->n = n;
    l->n_values = total;
    for (size_t i = 0; i < n; i++)
        l->modules[i].scale = bise_lora_scale(modules[i].alpha, modules[i].r,
                                              l->rslora);
    place(l);
    return BISE_OK;
}

/* Gradients lie in the same order as values; calling twice is harmless. */
bise_status bise_lora_train(bise_lora *l, bise_error *err)
{
    if (!l->grads)
        l->grads = bise_alloc_aligned(l->n_values * sizeof(float));
    if (!l->grads)
        return bise_fail_nomem(err);
    place(l);
    return BISE_OK;
}

/* A short list: the server reserves room for the largest rank. */
int bise_lora_vllm_rank(int64_t rank)
{
    static const int steps[] = { 1, 8, 16, 32, 64, 128, 256, 320, 512 };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (rank <= steps[i])
            return steps[i];
    return (int)rank;
}

/* Modules point into the two buffers and own nothing. */
void bise_lora_fini(bise_lora *l)
{
    for (size_t i = 0; i < l->n_saved; i++)
        bise_free(l->saved[i].w);
    bise_free(l->saved);
    bise_free(l->modules);
    bise_free_aligned(l->values);
    bise_free_aligned(l->grads);
    bise_json_free(l->lineage);
    memset(l, 0, sizeof *l);
}

/* A walk: adapters have some hundred modules and this is not a hot path. */
const bise_lora_module *bise_lora_find(const bise_lora *l, bise_role role)
{
    for (size_t i = 0; i < l->n; i++)
        if (bise_role_equal(l->modules[i].role, role))
            return &l->modules[i];
    return NULL;
}

/* What --target means: every linear of the layers, a full-match expression (as
 * a string in PEFT), or names that match a path or its end after a dot. */
typedef struct target {
    bool all;
    bise_regex *re;
    const char *list;
} target;

/* A character that names never have marks an expression. */
static bise_status target_init(target *t, const char *text, bise_error *err)
{
    *t = (target){ .list = text };
    t->all = !text || strcmp(text, "all-linear") == 0;
    if (t->all || !strpbrk(text, "*\\([|^$+?"))
        return BISE_OK;
    return bise_regex_new(&t->re, text, strlen(text), err);
}

/* Does one name of length n cover the path? */
static bool covers(const char *name, size_t n, const char *path)
{
    const size_t len = strlen(path);
    return n && n <= len && strncmp(path + len - n, name, n) == 0 &&
           (n == len || path[len - n - 1] == '.');
}

/* Experts are never part of "all-linear": they must be asked for. */
static bool hits(const target *t, bise_role role, const char *path)
{
    if (t->all)
        return role.layer >= 0 && role.expert < 0;
    if (t->re)
        return bise_regex_full(t->re, path);
    for (const char *p = t->list; *p;) {
        const size_t n = strcspn(p, ", ");
        if (covers(p, n, path))
            return true;
        p += n;
        p += strspn(p, ", ");
    }
    return false;
}

/* Every name of a list must be one of the model's, or a typing error would
 * quietly train less. */
static bise_status check_names(const target *t, const bise_config *c,
                               const bise_role *roles, size_t n,
                               bise_error *err)
{
    char path[256];
    if (t->all || t->re)
        return BISE_OK;
    for (const char *p = t->list; *p;) {
        const size_t len = strcspn(p, ", ");
        bool found = false;
        for (size_t i = 0; i < n && !found; i++)
            found = bise_peft_path(path, roles[i], c->family, c->wrapper) &&
                    covers(p, len, path);
        if (len && !found) {
            err->status = bise_fail(err, BISE_EINVAL, "target '%.*s' is no "
                                    "linear layer of this model", (int)len, p);
            return bise_error_hint(err, "q_proj, k_proj, v_proj, o_proj, "
                                   "gate_proj, up_proj, down_proj, lm_head or "
                                   "all-linear");
        }
        p += len;
        p += strspn(p, ", ");
    }
    return BISE_OK;
}

/* The model's linear layers, experts one by one, a tied head too (it is refused
 * by name later). Returns an array to free. */
static bise_role *linear_roles(const bise_config *config, size_t *n)
{
    bise_config untied = *config;
    const bise_config *c = &untied;
    untied.tied = false;
    const size_t all = bise_config_roles(c, NULL, 0);
    const size_t each = (size_t)(c->E > 1 ? c->E : 1);
    bise_role *in = bise_alloc_array(all, sizeof *in);
    bise_role *out = bise_alloc_array(all * each, sizeof *out);
    *n = 0;
    if (in && out)
        (void)bise_config_roles(c, in, all);
    for (size_t i = 0; in && out && i < all; i++) {
        const bise_role_kind k = in[i].kind;
        const bool expert = k == BISE_ROLE_EXP_GATE || k == BISE_ROLE_EXP_UP ||
                            k == BISE_ROLE_EXP_DOWN;
        if (!bise_role_module(k))
            continue;
        for (size_t e = 0; e < (expert ? each : 1); e++) {
            out[*n] = in[i];
            out[(*n)++].expert = expert ? (int32_t)e : -1;
        }
    }
    bise_free(in);
    return out;
}

/* Rank and alpha of one module by the patterns; shape from the config. */
static bise_status make_module(bise_lora_module *m, const bise_config *c,
                               const bise_lora_options *o, bise_role role,
                               const char *path, bise_error *err)
{
    uint64_t dims[3] = { 0 };
    double r, alpha;
    bise_status s = bise_peft_pattern(&r, o->rank_pattern, path, o->r, err);
    if (s == BISE_OK)
        s = bise_peft_pattern(&alpha, o->alpha_pattern, path, o->alpha, err);
    if (s != BISE_OK)
        return s;
    if (!(r >= 1 && r <= MAX_RANK) || r != floor(r) || !(alpha > 0))
        return bise_fail(err, BISE_EINVAL, "rank %g and alpha %g of '%s': the "
                         "rank must be 1 to %d, alpha positive", r, alpha,
                         path, MAX_RANK);
    (void)bise_role_shape(c, role, dims);
    *m = (bise_lora_module){ .role = role, .r = (int32_t)r,
                             .out = (int32_t)dims[0], .in = (int32_t)dims[1],
                             .alpha = alpha };
    return BISE_OK;
}

/* Kaiming-uniform A (a = sqrt 5) is uniform in +-1/sqrt(in); B stays zero, so
 * the first step starts from the base. The stream is the role's, so a module
 * gets the same values whatever else is trained. */
static void init_values(bise_lora *l, uint64_t seed)
{
    for (size_t i = 0; i < l->n; i++) {
        bise_lora_module *m = &l->modules[i];
        const float bound = 1.0f / sqrtf((float)m->in);
        const uint64_t stream = (uint64_t)m->role.kind |
                                (uint64_t)(m->role.layer + 1) << 8 |
                                (uint64_t)(m->role.expert + 1) << 32;
        const size_t n = (size_t)m->r * (size_t)m->in;
        for (size_t j = 0; j < n; j++)
            m->a[j] = (2 * bise_rng_f32(seed, stream, j) - 1) * bound;
    }
}

/* Choose the targeted modules. Returns an array to free, NULL on failure. */
static bise_lora_module *choose(const bise_config *c,
                                const bise_lora_options *o, const target *t,
                                size_t *n, bise_error *err)
{
    size_t n_roles = 0;
    char path[256];
    *n = 0;
    bise_role *roles = linear_roles(c, &n_roles);
    bise_lora_module *m = roles ? bise_alloc_array(n_roles + 1, sizeof *m)
                                : NULL;
    bise_status s = m ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = check_names(t, c, roles, n_roles, err);
    for (size_t i = 0; i < n_roles && s == BISE_OK; i++) {
        const bool low = roles[i].layer >= 0 &&
                         roles[i].layer < o->layers_from;
        if (!low && bise_peft_path(path, roles[i], c->family, c->wrapper) &&
            hits(t, roles[i], path))
            s = make_module(&m[(*n)++], c, o, roles[i], path, err);
    }
    if (s == BISE_OK && !*n)
        s = bise_fail(err, BISE_EINVAL, "target '%s' matches no linear layer",
                      t->list);
    bise_free(roles);
    if (s == BISE_OK)
        return m;
    bise_free(m);
    return NULL;
}

/* B = 0 makes step 0 equal the base bit for bit (lora.md 15, test 3). */
bise_status bise_lora_new(bise_lora *l, const bise_config *c,
                          const bise_lora_options *o, bool train,
                          bise_error *err)
{
    memset(l, 0, sizeof *l);
    if (bise_family_get(c->family)->mla) {
        err->status = bise_fail(err, BISE_EUNSUPPORTED, "training of %s models "
                                "(latent attention) is not supported",
                                bise_family_name(c->family));
        return bise_error_hint(err, "convert, quantize and eval read them");
    }
    target t;
    bise_status s = target_init(&t, o->target, err);
    size_t n = 0;
    bise_lora_module *m = s == BISE_OK ? choose(c, o, &t, &n, err) : NULL;
    bise_regex_free(t.re);
    if (!m)
        return err->status;
    for (size_t i = 0; i < n && s == BISE_OK; i++)
        if (c->tied && m[i].role.kind == BISE_ROLE_HEAD)
            s = bise_fail(err, BISE_EUNSUPPORTED, "lm_head is tied to the "
                          "embedding and cannot be a target");
    l->dropout = (float)o->dropout;
    l->rslora = o->rslora;
    l->dora = o->dora;
    l->wrapper = c->wrapper;
    l->format = "new";
    if (s == BISE_OK)
        s = bise_lora_alloc(l, m, n, err);
    bise_free(m);
    if (s == BISE_OK)
        init_values(l, o->seed);
    if (s == BISE_OK && train)
        s = bise_lora_train(l, err);
    if (s != BISE_OK)
        bise_lora_fini(l);
    return s;
}
