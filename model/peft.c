/* peft.c - how PEFT names modules and matches patterns against the names
 * (lora.md 2.1, 2.2), used by the adapter reader and writer and by the choice
 * of targets of a new adapter.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/peft.h"

#include <stdio.h>
#include <string.h>

#include "core/regex.h"
#include "core/str.h"
#include "model/checkpoint.h"

/* Fused experts are parameters without a module, so they have no path. */
bool bise_peft_path(char out[256], bise_role role, bise_family family,
                    bool wrapper)
{
    if (!bise_role_name_prefixed(out, role, family,
                                 wrapper ? BISE_PEFT_WRAPPER : "") ||
        !bise_ends_with(out, ".weight"))
        return false;
    out[strlen(out) - strlen(".weight")] = 0;
    return true;
}

/* Adapters come from both module trees of the wrapper and from tools that cut
 * the head of the path; all of them mean one role. */
bise_role bise_peft_role(const char *path, bool *wrapper)
{
    static const char part[] = "language_model.";
    char name[320];
    bool inner = false;
    if (bise_starts_with(path, "base_model.model."))
        path += strlen("base_model.model.");
    /* Either scheme of a wrapper: the first "language_model." goes. */
    const char *at = strstr(path, part);
    const size_t head = at ? (size_t)(at - path) : 0;
    if (at && (head == 0 || strncmp(path, "model.", head) == 0)) {
        snprintf(name, sizeof name, "%.*s%.240s.weight", (int)head, path,
                 at + sizeof part - 1);
        inner = true;
    } else {
        snprintf(name, sizeof name, "%.250s.weight", path);
    }
    bise_role r = bise_role_of(name, BISE_NAMES_HF);
    if (r.kind == BISE_ROLE_COUNT && bise_starts_with(name, "layers.")) {
        char full[340];   /* tools that cut the class's own prefix */
        snprintf(full, sizeof full, "model.%s", name);
        r = bise_role_of(full, BISE_NAMES_HF);
    }
    if (inner && r.kind != BISE_ROLE_COUNT)
        *wrapper = true;
    return r;
}

/* Keys are tried in file order, as PEFT walks its dict. */
bise_status bise_peft_pattern(double *out, const bise_json *pattern,
                              const char *path, double other, bise_error *err)
{
    *out = other;
    for (void *it = bise_json_iter(pattern, NULL); it;
         it = bise_json_iter(pattern, it)) {
        const char *key = bise_json_iter_key(it);
        bise_str text = { 0 };
        bise_regex *re = NULL;
        bise_str_printf(&text, "(.*\\.)?(%s)", key);
        bise_status s = bise_str_ok(&text) ? BISE_OK : bise_fail_nomem(err);
        if (s == BISE_OK)
            s = bise_regex_new(&re, bise_str_get(&text), text.len, err);
        const bool hit = s == BISE_OK && bise_regex_full(re, path);
        bise_regex_free(re);
        bise_str_fini(&text);
        if (s != BISE_OK)
            return s;
        if (!hit)
            continue;
        *out = bise_json_number(bise_json_iter_value(it), -1);
        if (!(*out >= 0))
            return bise_fail(err, BISE_EFORMAT, "pattern '%s' has no number",
                             key);
        return BISE_OK;
    }
    return BISE_OK;
}
