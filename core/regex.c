/* regex.c - the only file that sees PCRE2. Compiled once per pattern, JIT when
 * the library offers it, matching without UTF checks (callers validate).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "core/mem.h"

struct bise_regex {
    pcre2_code *code;
    bool jit;
};

struct bise_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* UTF and UCP: \p, \s and \w follow Unicode. A pattern that the JIT cannot
 * take is interpreted; the result is the same. */
bise_status bise_regex_new(bise_regex **out, const char *pattern, size_t n,
                           bise_error *err)
{
    int code;
    PCRE2_SIZE at;
    bise_regex *re = bise_alloc(sizeof *re);
    if (!re)
        return bise_fail_nomem(err);
    re->code = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | PCRE2_UCP,
                             &code, &at, NULL);
    if (!re->code) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        bise_free(re);
        return bise_fail(err, BISE_EINVAL,
                         "invalid regular expression at character %zu: %s",
                         (size_t)at, why);
    }
    re->jit = pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE) == 0;
    *out = re;
    return BISE_OK;
}

/* NULL is fine. */
void bise_regex_free(bise_regex *re)
{
    if (!re)
        return;
    pcre2_code_free(re->code);
    bise_free(re);
}

/* The JIT gets up to 4 MiB of stack: tokenizer patterns backtrack over long
 * runs of blanks. */
bise_status bise_matcher_new(bise_matcher **out, const bise_regex *re,
                             bise_error *err)
{
    bise_matcher *m = bise_alloc(sizeof *m);
    if (!m)
        return bise_fail_nomem(err);
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    if (re->jit)
        m->stack = pcre2_jit_stack_create(1 << 15, 1 << 22, NULL);
    if (!m->data || !m->context || (re->jit && !m->stack)) {
        bise_matcher_free(m);
        return bise_fail_nomem(err);
    }
    if (m->stack)
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *out = m;
    return BISE_OK;
}

/* NULL is fine, also for a matcher that was only half made. */
void bise_matcher_free(bise_matcher *m)
{
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    bise_free(m);
}

/* The JIT entry skips all argument checks, which callers have made. */
int bise_regex_find(const bise_regex *re, bise_matcher *m, const char *text,
                    size_t n, size_t start, size_t *from, size_t *to)
{
    const int rc = re->jit ?
        pcre2_jit_match(re->code, (PCRE2_SPTR)text, n, start,
                        PCRE2_NO_UTF_CHECK, m->data, m->context) :
        pcre2_match(re->code, (PCRE2_SPTR)text, n, start, PCRE2_NO_UTF_CHECK,
                    m->data, m->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0)
        return -1;
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->data);
    *from = v[0];
    *to = v[1];
    return 1;
}

/* One match of a whole C string; from and to bound the hit. */
static bool match_once(const bise_regex *re, const char *text, uint32_t flags)
{
    pcre2_match_data *d = pcre2_match_data_create(1, NULL);
    const int rc = d ? pcre2_match(re->code, (PCRE2_SPTR)text, strlen(text), 0,
                                   flags, d, NULL) : -1;
    pcre2_match_data_free(d);
    return rc >= 0;
}

bool bise_regex_search(const bise_regex *re, const char *text)
{
    return match_once(re, text, 0);
}

/* Anchored at both ends. */
bool bise_regex_full(const bise_regex *re, const char *text)
{
    return match_once(re, text, PCRE2_ANCHORED | PCRE2_ENDANCHORED);
}
