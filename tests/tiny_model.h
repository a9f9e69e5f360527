/* tiny_model.h - random checkpoints of any family for tests: the tensors that a
 * configuration implies, named for a layout, which a test may rename, reshape
 * or remove before they are written with a config file beside them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_TINY_MODEL_H
#define BISE_TESTS_TINY_MODEL_H

#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/checkpoint.h"
#include "tests/check_main.h"

#define TINY_MAX 256

typedef struct tiny {
    bise_tensor t[TINY_MAX];
    size_t n;
    bise_arena arena;
} tiny;

static inline void tiny_add(tiny *m, const char *name, bise_dtype dtype,
                            int n_dims, const uint64_t *dims)
{
    bise_tensor *t = &m->t[m->n];
    ck_assert_uint_lt(m->n, TINY_MAX);
    *t = (bise_tensor){ .name = bise_arena_strdup(&m->arena, name),
                        .dtype = dtype, .n_dims = n_dims };
    for (int i = 0; i < n_dims; i++)
        t->dims[i] = dims[i];
    const uint64_t count = bise_tensor_count(t);
    t->bytes = bise_dtype_bytes(dtype, count);
    char *data = bise_arena_alloc(&m->arena, t->bytes + 1);
    for (uint64_t i = 0; dtype == BISE_DTYPE_F32 && i < count; i++) {
        const float v = bise_rng_f32(7, m->n, i) - 0.5f;
        memcpy(data + 4 * i, &v, 4);
    }
    t->data = data;
    m->n++;
}

/* One role, whole or one expert after the other. */
static inline void tiny_role(tiny *m, const bise_config *c, bise_role r,
                             bise_names names, const char *prefix)
{
    char name[256], plain[192];
    uint64_t d[3];
    const int n = bise_role_shape(c, r, d);
    const bool ok = names == BISE_NAMES_HF
        ? bise_role_name_prefixed(name, r, c->family, prefix)
        : bise_role_name_in(plain, r, names, c->family);
    if (names != BISE_NAMES_HF)
        snprintf(name, sizeof name, "%s", plain);
    /* Fused experts only have the down part under a name of its own. */
    const bool fused = r.kind == BISE_ROLE_EXP_DOWN && r.expert < 0 &&
                       names == BISE_NAMES_HF;
    if (ok && n && !fused) {
        tiny_add(m, name, BISE_DTYPE_F32, n, d);
        return;
    }
    ck_assert_msg(r.expert < 0, "role %d has no name", (int)r.kind);
    for (r.expert = 0; r.expert < c->E; r.expert++)
        tiny_role(m, c, r, names, prefix);
}

/* All tensors of a configuration. */
static inline void tiny_fill(tiny *m, const bise_config *c, bise_names names,
                             const char *prefix)
{
    bise_role r[128];
    const size_t n = bise_config_roles(c, r, 128);
    ck_assert_uint_le(n, 128);
    m->n = 0;
    for (size_t i = 0; i < n; i++)
        tiny_role(m, c, r[i], names, prefix);
}

static inline bise_tensor *tiny_find(tiny *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->t[i].name, name) == 0)
            return &m->t[i];
    ck_abort_msg("no tensor '%s'", name);
    return NULL;
}

static inline void tiny_remove(tiny *m, const char *name)
{
    bise_tensor *t = tiny_find(m, name);
    m->n--;
    memmove(t, t + 1, (size_t)(m->t + m->n - t) * sizeof *t);
}

/* Write dir/file and, when given, dir/side with its text. */
static inline void tiny_save(tiny *m, const char *dir, const char *file,
                             const char *side, const char *text)
{
    bise_error err;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    ck_ok(bise_st_save(path, NULL, m->t, m->n, &err));
    snprintf(path, sizeof path, "%s/%s", dir, side ? side : "");
    if (side)
        ck_ok(bise_file_write(path, text, strlen(text), &err));
}

static inline void tiny_free(tiny *m)
{
    bise_arena_fini(&m->arena);
}

#endif
