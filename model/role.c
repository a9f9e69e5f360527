/* role.c - names to roles and back, by matching against the templates of
 * roles.def. A file has some hundred names and the table forty rows, so a plain
 * walk over the table is fast enough. Called by checkpoint.c, the adapter
 * readers and every writer that needs names.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/role.h"

#include <stdio.h>
#include <string.h>

enum { ANY = -1, MIXTRAL = BISE_FAMILY_MIXTRAL };

typedef struct row {
    bise_role_kind kind;
    int family;           /* ANY or one family */
    const char *name[3];  /* by bise_names */
} row;

static const row table[] = {
#define BISE_ROLE(kind, family, hf, native, gguf) \
    { BISE_ROLE_##kind, family, { hf, native, gguf } },
#include "model/roles.def"
#undef BISE_ROLE
};

#define N_ROWS (sizeof table / sizeof *table)

/* Module names as PEFT's target_modules have them. */
static const char *const modules[BISE_ROLE_COUNT] = {
    [BISE_ROLE_Q] = "q_proj", [BISE_ROLE_K] = "k_proj",
    [BISE_ROLE_V] = "v_proj", [BISE_ROLE_O] = "o_proj",
    [BISE_ROLE_GATE] = "gate_proj", [BISE_ROLE_UP] = "up_proj",
    [BISE_ROLE_DOWN] = "down_proj", [BISE_ROLE_HEAD] = "lm_head",
    [BISE_ROLE_EXP_GATE] = "w1", [BISE_ROLE_EXP_UP] = "w3",
    [BISE_ROLE_EXP_DOWN] = "w2", [BISE_ROLE_Q_A] = "q_a_proj",
    [BISE_ROLE_Q_B] = "q_b_proj", [BISE_ROLE_KV_A] = "kv_a_proj_with_mqa",
    [BISE_ROLE_KV_B] = "kv_b_proj",
};

/* A decimal number without leading zeros at *s, at most seven digits. */
static bool take_number(const char **s, int32_t *out)
{
    const char *p = *s;
    int32_t v = 0;
    while (*p >= '0' && *p <= '9' && p - *s < 7)
        v = v * 10 + (*p++ - '0');
    if (p == *s || (**s == '0' && p - *s > 1))
        return false;
    *s = p;
    *out = v;
    return true;
}

/* Compare a name with a template, taking numbers where it has braces. */
static bool match(const char *template, const char *name, bise_role *role)
{
    while (*template) {
        if (*template == '{') {
            if (!take_number(&name, template[1] == 'i' ? &role->layer
                                                       : &role->expert))
                return false;
            template += 3;
        } else if (*template++ != *name++) {
            return false;
        }
    }
    return *name == 0;
}

/* Templates do not overlap, so the first match is the only one. */
bise_role bise_role_of(const char *name, bise_names layout)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        bise_role r = { table[i].kind, -1, -1 };
        if (table[i].name[layout] && match(table[i].name[layout], name, &r))
            return r;
    }
    return (bise_role){ BISE_ROLE_COUNT, -1, -1 };
}

/* Write numbers into a template; names stay far below the 192 bytes. */
static void expand(char out[192], const char *template, bise_role role)
{
    size_t n = 0;
    while (*template && n < 160) {
        if (*template != '{') {
            out[n++] = *template++;
            continue;
        }
        const int v = template[1] == 'i' ? role.layer : role.expert;
        n += (size_t)snprintf(out + n, 16, "%d", v);
        template += 3;
    }
    out[n] = 0;
}

/* First row that fits role, family and whether one expert is meant. */
bool bise_role_name_in(char out[192], bise_role role, bise_names layout,
                       bise_family family)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        const char *t = table[i].name[layout];
        if (table[i].kind != role.kind || !t ||
            (table[i].family != ANY && table[i].family != (int)family) ||
            (strstr(t, "{e}") != NULL) != (role.expert >= 0))
            continue;
        expand(out, t, role);
        return true;
    }
    return false;
}

/* For dense roles, whose names do not depend on the family. */
bool bise_role_name(char out[192], bise_role role, bise_names layout)
{
    return bise_role_name_in(out, role, layout, BISE_FAMILY_MIXTRAL);
}

/* NULL also for kinds beyond the table. */
const char *bise_role_module(bise_role_kind kind)
{
    return kind < BISE_ROLE_COUNT ? modules[kind] : NULL;
}

/* The inverse of the table above. */
bise_role_kind bise_role_by_module(const char *module)
{
    for (int i = 0; i < BISE_ROLE_COUNT; i++)
        if (modules[i] && strcmp(module, modules[i]) == 0)
            return (bise_role_kind)i;
    return BISE_ROLE_COUNT;
}
