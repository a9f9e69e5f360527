/* check_template.c - chat templates told apart by their control tokens, and
 * compared with the format in use; where their text comes from. The judge of
 * whole templates is tests/judge_templates.py.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/template.h"

#include <string.h>

#include "tests/check_main.h"
#include "text/chat_turns.h"

static const struct { const char *text, *name; int low, high; } signs[] = {
    { "{{ '[INST] ' + m + ' [/INST]' }}", "v1", 1, 1 },
    { "{{ '[INST]' + m + '[/INST]' }}", "v2 to v3", 2, 3 },
    { "[INST] x[/INST][TOOL_CALLS]", "v2", 2, 2 },
    { "[INST] x[/INST][TOOL_CALLS] call_id", "v3", 3, 3 },
    { "[INST]x[/INST][TOOL_CALLS] call_id", "v3-tekken", 3, 3 },
    { "[SYSTEM_PROMPT] [INST] x[/INST][TOOL_CALLS]", "v7", 7, 7 },
    { "[SYSTEM_PROMPT][INST]x[/INST][TOOL_CALLS]", "v7-tekken", 7, 7 },
    { "[SYSTEM_PROMPT][INST]x[/INST]", "v7-tekken to v13", 7, 13 },
    { "[INST]x[TOOL_CALLS]f[CALL_ID]i[ARGS]{}", "v11", 11, 11 },
    { "[INST]x[TOOL_CALLS]f[ARGS]{}", "v13", 13, 13 },
    { "[MODEL_SETTINGS][INST]x[TOOL_CALLS]f[ARGS]{}", "v15", 15, 15 },
    { "<|im_start|>user", "another family's", 0, 0 },
    { "", "another family's", 0, 0 },
    { "[INST", "another family's", 0, 0 },
};

START_TEST(signs_tell_the_version)
{
    bise_template_signs s;
    char name[32];
    bise_template_read(&s, signs[_i].text, strlen(signs[_i].text));
    ck_assert_int_eq(s.low, signs[_i].low);
    ck_assert_int_eq(s.high, signs[_i].high);
    bise_template_name(name, &s);
    ck_assert_str_eq(name, signs[_i].name);
    ck_assert(!s.default_system);
}
END_TEST

/* Texts that write plain conversations as the format does fit it. */
START_TEST(fits_by_version_and_blanks)
{
    static const struct { const char *text; int version; bool tekken, fits; }
    pairs[] = {
        { "'[INST] ' + m + ' [/INST]'", 1, false, true },
        { "'[INST] ' + m + ' [/INST]'", 3, false, false },
        { "[INST]x[/INST]", 3, true, true },
        { "[INST]x[/INST]", 3, false, false },
        { "[INST] x[/INST]", 2, false, true },
        { "[INST] x[/INST]", 3, true, false },
        { "[SYSTEM_PROMPT][INST]x[/INST]", 11, true, true },
        { "[SYSTEM_PROMPT][INST]x[/INST]", 15, true, false },
        { "[INST]x[TOOL_CALLS]f[ARGS]{}", 13, true, true },
        { "[INST]x[TOOL_CALLS]f[ARGS]{}", 11, true, false },
        { "<|im_start|>", 13, true, false },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const bise_chat chat = { .version = pairs[i].version,
                                 .tekken = pairs[i].tekken };
        bise_template_signs s;
        bise_template_read(&s, pairs[i].text, strlen(pairs[i].text));
        ck_assert_msg(bise_template_fits(&s, &chat) == pairs[i].fits, "%s",
                      pairs[i].text);
    }
}
END_TEST

/* The text is a window into a file: nothing behind it is looked at. */
START_TEST(length_bounds_the_search)
{
    static const char text[] = "[INST]x[/INST]default_system_message";
    bise_template_signs s;
    bise_template_read(&s, text, strlen("[INST]x[/INST]"));
    ck_assert(!s.default_system);
    bise_template_read(&s, text, strlen(text) - 1);
    ck_assert(!s.default_system);
    bise_template_read(&s, text, strlen(text));
    ck_assert(s.default_system);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("template");
    TCase *c = tcase_create("template");
    tcase_add_loop_test(c, signs_tell_the_version, 0,
                        sizeof signs / sizeof *signs);
    tcase_add_test(c, fits_by_version_and_blanks);
    tcase_add_test(c, length_bounds_the_search);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
