/* check_json.c - tests of core/json: parsing with every kind of fault, typed
 * reads, building, copying, and the two writers against Python's json.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/json.h"
#include "tests/check_main.h"

/* Parse a text that must be valid. */
static bise_json *parse(const char *text)
{
    bise_error err;
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    return v;
}

/* Texts that are not JSON, or not the JSON we accept. */
static const char *const invalid[] = {
    "", " ", "{", "}", "[1,", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}",
    "{\"a\":1,}", "[1,]", "nul", "True", "'a'", "\"a", "\"\\x\"", "\"\\u12\"",
    "01", "1.", ".5", "+1", "- 1", "1e", "[1]]", "{\"a\":1}{", "\"\xff\"",
    "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\n\"", "{\"a\":1,\"a\":1}",
    "{\"x\":{\"k\":1,\"k\":2}}", "1e999", "NaN", "Infinity", "/* c */ 1",
};

START_TEST(invalid_text_is_refused_with_a_place)
{
    bise_error err;
    bise_json *v = NULL;
    ck_fails(bise_json_parse(&v, invalid[_i], strlen(invalid[_i]), &err),
             BISE_EFORMAT);
    ck_assert_ptr_null(v);
    ck_assert_int_ge((int)err.offset, 0);
    ck_assert_ptr_nonnull(strstr(err.text, "invalid JSON at line 1"));
}
END_TEST

START_TEST(every_truncation_of_an_object_is_refused)
{
    const char *text = "{\"a\": [1, 2.5, \"x\\n\"], \"b\": {\"c\": null}}";
    for (size_t n = 0; n < strlen(text); n++) {
        bise_error err;
        bise_json *v = NULL;
        ck_fails(bise_json_parse(&v, text, n, &err), BISE_EFORMAT);
    }
}
END_TEST

START_TEST(deep_nesting_is_refused_not_crashed)
{
    enum { DEPTH = 100000 };
    static char text[DEPTH + 1];
    memset(text, '[', DEPTH);
    bise_error err;
    bise_json *v = NULL;
    ck_fails(bise_json_parse(&v, text, DEPTH, &err), BISE_EFORMAT);
}
END_TEST

START_TEST(types_are_told_apart)
{
    bise_json *v = parse("[null, true, 1, 1.5, \"s\", [], {}]");
    static const bise_json_type want[] = {
        BISE_JSON_NULL, BISE_JSON_BOOL, BISE_JSON_INT, BISE_JSON_REAL,
        BISE_JSON_STRING, BISE_JSON_ARRAY, BISE_JSON_OBJECT };
    ck_assert_uint_eq(bise_json_size(v), 7);
    for (size_t i = 0; i < 7; i++)
        ck_assert_int_eq(bise_json_typeof(bise_json_at(v, i)), want[i]);
    ck_assert_ptr_null(bise_json_at(v, 7));
    ck_assert_int_eq(bise_json_typeof(NULL), BISE_JSON_ABSENT);
    ck_assert(bise_json_is_null(NULL));
    ck_assert(bise_json_is_null(bise_json_at(v, 0)));
    ck_assert(!bise_json_is_null(bise_json_at(v, 1)));
    bise_json_free(v);
}
END_TEST

START_TEST(absent_values_read_as_the_default)
{
    bise_json *v = parse("{\"s\": \"text\", \"n\": 7, \"b\": false}");
    int64_t i = 5;
    ck_assert_double_eq(bise_json_number(bise_json_get(v, "no"), 3), 3);
    ck_assert_double_eq(bise_json_number(bise_json_get(v, "s"), 3), 3);
    ck_assert_double_eq(bise_json_number(bise_json_get(v, "n"), 3), 7);
    ck_assert(!bise_json_integer(bise_json_get(v, "no"), &i));
    ck_assert(!bise_json_integer(bise_json_get(v, "s"), &i));
    ck_assert_int_eq((int)i, 5);
    ck_assert(bise_json_integer(bise_json_get(v, "n"), &i));
    ck_assert_int_eq((int)i, 7);
    ck_assert(bise_json_bool(bise_json_get(v, "no"), true));
    ck_assert(!bise_json_bool(bise_json_get(v, "b"), true));
    ck_assert(bise_json_bool(bise_json_get(v, "n"), true));
    ck_assert_ptr_null(bise_json_string(bise_json_get(v, "n"), NULL));
    ck_assert_ptr_null(bise_json_get(NULL, "x"));
    ck_assert_ptr_null(bise_json_get(bise_json_get(v, "n"), "x"));
    ck_assert_uint_eq(bise_json_size(bise_json_get(v, "n")), 0);
    bise_json_free(v);
}
END_TEST

/* Numbers, whether they count as whole, and the value. */
static const struct {
    const char *text;
    bool whole;
    int64_t value;
} numbers[] = {
    { "0", true, 0 },        { "-5", true, -5 },       { "1e3", true, 1000 },
    { "1000000.0", true, 1000000 },                    { "1e-05", false, 0 },
    { "2.5", false, 0 },     { "1e17", false, 0 },
    { "9007199254740993", true, 9007199254740993 },
    { "9223372036854775807", true, INT64_MAX },        { "\"5\"", false, 0 },
};

START_TEST(whole_numbers_may_be_written_as_reals)
{
    bise_json *v = parse(numbers[_i].text);
    int64_t got = 0;
    ck_assert_int_eq(bise_json_integer(v, &got), numbers[_i].whole);
    if (numbers[_i].whole)
        ck_assert(got == numbers[_i].value);
    bise_json_free(v);
}
END_TEST

START_TEST(number_reads_a_string_that_spells_one)
{
    bise_json *v = parse("[\"4096\", \"1e4\", \"\", \"12x\"]");
    ck_assert_double_eq(bise_json_number(bise_json_at(v, 0), -1), 4096);
    ck_assert_double_eq(bise_json_number(bise_json_at(v, 1), -1), 10000);
    ck_assert_double_eq(bise_json_number(bise_json_at(v, 2), -1), -1);
    ck_assert_double_eq(bise_json_number(bise_json_at(v, 3), -1), -1);
    bise_json_free(v);
}
END_TEST

START_TEST(members_are_walked_in_input_order)
{
    bise_json *v = parse("{\"z\": 0, \"a\": 1, \"m\": 2}");
    static const char *const want[] = { "z", "a", "m" };
    int i = 0;
    for (void *it = bise_json_iter(v, NULL); it; it = bise_json_iter(v, it)) {
        ck_assert_str_eq(bise_json_iter_key(it), want[i]);
        ck_assert_double_eq(bise_json_number(bise_json_iter_value(it), -1), i);
        i++;
    }
    ck_assert_int_eq(i, 3);
    bise_json_free(v);
}
END_TEST

START_TEST(strings_may_hold_nul)
{
    bise_json *v = parse("\"a\\u0000b\"");
    size_t n = 0;
    const char *s = bise_json_string(v, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_mem_eq(s, "a\0b", 3);
    bise_json_free(v);
}
END_TEST

/* Reals and their text in Python. */
static const struct {
    double v;
    const char *text;
} reals[] = {
    { 0.0, "0.0" },         { -0.0, "-0.0" },       { 1.0, "1.0" },
    { 0.1, "0.1" },         { 2.5, "2.5" },         { 100.0, "100.0" },
    { 1e15, "1000000000000000.0" },                 { 1e16, "1e+16" },
    { 1.5e16, "1.5e+16" },  { 123456789.125, "123456789.125" },
    { 0.0001, "0.0001" },   { 0.00001, "1e-05" },   { 1.5e-7, "1.5e-07" },
    { 1e22, "1e+22" },      { 1e100, "1e+100" },    { 5e-324, "5e-324" },
    { 1.7976931348623157e308, "1.7976931348623157e+308" },
    { 0.30000000000000004, "0.30000000000000004" }, { -2.5e-5, "-2.5e-05" },
    { 1.0 / 3, "0.3333333333333333" },
};

START_TEST(reals_are_written_as_python_does)
{
    bise_json *v = bise_json_new_real(reals[_i].v);
    bise_str s = { 0 };
    bise_json_dump(&s, v, 0, false);
    ck_assert_str_eq(bise_str_get(&s), reals[_i].text);
    ck_assert_double_eq(strtod(bise_str_get(&s), NULL), reals[_i].v);
    bise_str_fini(&s);
    bise_json_free(v);
}
END_TEST

START_TEST(non_finite_reals_become_null)
{
    bise_json *v = bise_json_new_real(NAN), *w = bise_json_new_real(INFINITY);
    ck_assert_int_eq(bise_json_typeof(v), BISE_JSON_NULL);
    ck_assert_int_eq(bise_json_typeof(w), BISE_JSON_NULL);
    bise_json_free(v);
    bise_json_free(w);
}
END_TEST

START_TEST(dump_has_three_layouts)
{
    bise_json *v = parse("{\"b\": [1, {}], \"a\": {\"k\": []}}");
    bise_str s = { 0 };
    bise_json_dump(&s, v, 0, false);
    ck_assert_str_eq(bise_str_get(&s), "{\"b\":[1,{}],\"a\":{\"k\":[]}}");
    bise_str_clear(&s);
    bise_json_dump(&s, v, 2, true);
    ck_assert_str_eq(bise_str_get(&s),
                     "{\n  \"a\": {\n    \"k\": []\n  },\n"
                     "  \"b\": [\n    1,\n    {}\n  ]\n}");
    bise_str_clear(&s);
    bise_json_dump_python(&s, v);
    ck_assert_str_eq(bise_str_get(&s),
                     "{\"b\": [1, {}], \"a\": {\"k\": []}}");
    bise_str_fini(&s);
    bise_json_free(v);
}
END_TEST

START_TEST(dump_reads_back_equal)
{
    const char *text = "{\"x\":[1,-2,3.25,1e-09,\"\\u0001\xf0\x9f\x98\x80\","
                       "true,false,null],\"y\":{\"\":\"\"}}";
    bise_json *v = parse(text);
    bise_str s = { 0 };
    bise_json_dump(&s, v, 0, false);
    ck_assert_str_eq(bise_str_get(&s), text);
    bise_str_fini(&s);
    bise_json_free(v);
}
END_TEST

START_TEST(built_values_can_be_changed)
{
    bise_json *v = bise_json_new_object(), *a = bise_json_new_array();
    ck_assert_int_eq(bise_json_append(a, bise_json_new_int(1)), 0);
    ck_assert_int_eq(bise_json_append(a, bise_json_new_bool(true)), 0);
    ck_assert_int_eq(bise_json_append(a, bise_json_new_null()), 0);
    ck_assert_int_eq(bise_json_set(v, "list", a), 0);
    ck_assert_int_eq(bise_json_set(v, "s", bise_json_new_string("t")), 0);
    ck_assert_int_eq(bise_json_set(v, "s", bise_json_new_stringn("uv", 1)),
                     0);
    bise_json *copy = bise_json_copy(v), *same = bise_json_ref(v);
    bise_json_remove(v, "list");
    bise_json_remove(v, "absent");
    ck_assert_uint_eq(bise_json_size(v), 1);
    ck_assert_uint_eq(bise_json_size(copy), 2);
    bise_json_free(v);
    ck_assert_str_eq(bise_json_string(bise_json_get(same, "s"), NULL), "u");
    bise_json_free(same);
    bise_json_free(copy);
}
END_TEST

START_TEST(load_names_the_file)
{
    bise_error err;
    bise_json *v = NULL;
    ck_fails(bise_json_load(&v, "/nonexistent/config.json", &err), BISE_EIO);
    ck_assert_str_eq(err.path, "/nonexistent/config.json");
    ck_assert_int_ne(err.sys_errno, 0);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static Suite *suite(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    tcase_add_loop_test(t, invalid_text_is_refused_with_a_place, 0,
                        COUNT(invalid));
    tcase_add_test(t, every_truncation_of_an_object_is_refused);
    tcase_add_test(t, deep_nesting_is_refused_not_crashed);
    tcase_add_test(t, types_are_told_apart);
    tcase_add_test(t, absent_values_read_as_the_default);
    tcase_add_loop_test(t, whole_numbers_may_be_written_as_reals, 0,
                        COUNT(numbers));
    tcase_add_test(t, number_reads_a_string_that_spells_one);
    tcase_add_test(t, members_are_walked_in_input_order);
    tcase_add_test(t, strings_may_hold_nul);
    tcase_add_loop_test(t, reals_are_written_as_python_does, 0, COUNT(reals));
    tcase_add_test(t, non_finite_reals_become_null);
    tcase_add_test(t, dump_has_three_layouts);
    tcase_add_test(t, dump_reads_back_equal);
    tcase_add_test(t, built_values_can_be_changed);
    tcase_add_test(t, load_names_the_file);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
