/* check_yaml.c - YAML into JSON by the core schema, front matter of cards, and
 * the writer: whatever it writes reads back equal. Also SHA-256.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "formats/crypto.h"
#include "formats/yaml.h"
#include "tests/check_main.h"

/* YAML text and the compact JSON it must become. */
static const struct { const char *yaml, *json; } pairs[] = {
    { "", "null" },
    { "a: 1", "{\"a\":1}" },
    { "a: -12\nb: +3\nc: 0x1F\nd: 0o17\ne: 012",
      "{\"a\":-12,\"b\":3,\"c\":31,\"d\":15,\"e\":12}" },
    { "a: 2e-4\nb: 1.5\nc: .5\nd: 1.\ne: 1e3",
      "{\"a\":0.0002,\"b\":1.5,\"c\":0.5,\"d\":1.0,\"e\":1000.0}" },
    { "a: true\nb: False\nc: ~\nd: null\ne:\nf: yes",
      "{\"a\":true,\"b\":false,\"c\":null,\"d\":null,\"e\":null,"
      "\"f\":\"yes\"}" },
    { "a: '1'\nb: \"true\"\nc: !!str 7", "{\"a\":\"1\",\"b\":\"true\","
      "\"c\":\"7\"}" },
    { "- 1\n- [2, x]\n- {y: z}", "[1,[2,\"x\"],{\"y\":\"z\"}]" },
    { "a:\n  b:\n  - c\n  - d: e\n", "{\"a\":{\"b\":[\"c\",{\"d\":\"e\"}]}}" },
    { "a: |\n  x\n  y\nb: >\n  p\n  q\n", "{\"a\":\"x\\ny\\n\",\"b\":\"p q\\n\"}" },
    { "a: 1.2.3\nb: 12abc\nc: 1e\nd: -x\ne: apache-2.0",
      "{\"a\":\"1.2.3\",\"b\":\"12abc\",\"c\":\"1e\",\"d\":\"-x\","
      "\"e\":\"apache-2.0\"}" },
    { "# only\nk: v # comment\n", "{\"k\":\"v\"}" },
    { "---\na: 1\n...\n", "{\"a\":1}" },
    { "n: 123456789012345678901", "{\"n\":1.2345678901234568e+20}" },
};

START_TEST(reads_core_schema)
{
    bise_error err;
    bise_json *v = NULL;
    bise_str s = { 0 };
    const char *text = pairs[_i].yaml;
    ck_ok(bise_yaml_parse(&v, text, strlen(text), &err));
    bise_json_dump(&s, v, 0, false);
    ck_assert_str_eq(bise_str_get(&s), pairs[_i].json);
    bise_str_fini(&s);
    bise_json_free(v);
}
END_TEST

/* Text that must be refused, and a part of the message. */
static const struct { const char *yaml, *text; } wrong[] = {
    { "a: 1\na: 2", "line 2, column 1: this key stands twice: 'a'" },
    { "a: &x 1\nb: *x", "aliases" },
    { "a: [1, 2", "invalid YAML" },
    { "a: 1\n---\nb: 2", "second document" },
    { "a: \"\\q\"", "invalid YAML" },
    { "? [1]\n: 2", "key must be" },
    { "a: \"x\\0y\"", "NUL" },
    { "\t- a", "invalid YAML" },
    { "a: b: c", "invalid YAML" },
};

START_TEST(refuses_what_it_does_not_read)
{
    bise_error err;
    bise_json *v = NULL;
    const char *text = wrong[_i].yaml;
    ck_fails(bise_yaml_parse(&v, text, strlen(text), &err), BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, wrong[_i].text) != NULL, "%s", err.text);
    ck_assert_ptr_null(v);
}
END_TEST

START_TEST(refuses_deep_nesting)
{
    bise_error err;
    bise_json *v = NULL;
    char text[400];
    memset(text, '[', sizeof text);
    ck_fails(bise_yaml_parse(&v, text, sizeof text, &err), BISE_EFORMAT);
}
END_TEST

START_TEST(reads_front_matter)
{
    static const char card[] = "---\nlicense: apache-2.0\nbase_model:\n- a/b\n"
        "---\n# Title\n---\nnot: this\n";
    bise_error err;
    bise_json *v = NULL;
    ck_ok(bise_yaml_front_matter(&v, card, strlen(card), &err));
    ck_assert_str_eq(bise_json_string(bise_json_get(v, "license"), NULL),
                     "apache-2.0");
    ck_assert_uint_eq(bise_json_size(v), 2);
    bise_json_free(v);
    static const char *const none[] = { "", "# Title\n", "---\nlicense: x\n",
                                        "----\na: 1\n---\n", "---\n- 1\n---\n" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        ck_ok(bise_yaml_front_matter(&v, none[i], strlen(none[i]), &err));
        ck_assert_ptr_null(v);
    }
    static const char crlf[] = "\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n";
    ck_ok(bise_yaml_front_matter(&v, crlf, strlen(crlf), &err));
    ck_assert_str_eq(bise_json_string(bise_json_get(v, "license"), NULL),
                     "mit");
    bise_json_free(v);
}
END_TEST

/* Values that are hard to write plainly. */
static const char *const values[] = {
    "{\"a\":\"true\",\"b\":\"1e5\",\"c\":\"\",\"d\":\"- x\",\"e\":\"a: b\"}",
    "{\"a\":\"x #y\",\"b\":\" lead\",\"c\":\"trail \",\"d\":\"#\",\"e\":\"~\"}",
    "{\"a\":[],\"b\":{},\"c\":[[],[1,[2,{\"x\":[]}]]],\"d\":[{}]}",
    "{\"a b\":1,\"1\":2,\"\":3,\"x: y\":4,\"null\":5}",
    "{\"a\":\"line\\nline\",\"b\":\"\xc3\xa9\",\"c\":\"q\\\"q\",\"d\":\"\\t\"}",
    "[[1,2],[3,[4]],{\"a\":{\"b\":{\"c\":[{\"d\":1},{\"e\":2}]}}}]",
    "\"just text\"", "null", "0.0001", "[true,false,null,-5,1e+22]",
    "{\"s\":\"a,b\",\"t\":\"[x]\",\"u\":\"{y}\",\"v\":\"@z\",\"w\":\"%\"}",
    "{\"path\":\"/a/b:c\",\"time\":\"12:30\",\"end\":\"x:\"}",
};

START_TEST(dump_reads_back_equal)
{
    bise_error err;
    bise_json *v = NULL, *again = NULL;
    bise_str yaml = { 0 }, json = { 0 };
    ck_ok(bise_json_parse(&v, values[_i], strlen(values[_i]), &err));
    bise_yaml_dump(&yaml, v);
    ck_ok(bise_yaml_parse(&again, bise_str_get(&yaml), yaml.len, &err));
    bise_json_dump(&json, again, 0, false);
    ck_assert_str_eq(bise_str_get(&json), values[_i]);
    bise_str_fini(&yaml);
    bise_str_fini(&json);
    bise_json_free(v);
    bise_json_free(again);
}
END_TEST

START_TEST(dump_is_block_style)
{
    bise_error err;
    bise_json *v = NULL;
    bise_str yaml = { 0 };
    const char *text = "{\"license\":\"apache-2.0\",\"tags\":[\"a\",\"b c\"],"
        "\"eval\":{\"loss\":1.5,\"on\":true}}";
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    bise_yaml_dump(&yaml, v);
    ck_assert_str_eq(bise_str_get(&yaml), "license: apache-2.0\ntags:\n- a\n"
                     "- b c\neval:\n  loss: 1.5\n  on: true\n");
    bise_str_fini(&yaml);
    bise_json_free(v);
}
END_TEST

START_TEST(sha256_matches_the_standard)
{
    uint8_t digest[32];
    char hex[65];
    bise_error err;
    bise_sha256_of(digest, "abc", 3);           /* FIPS 180-2, appendix B.1 */
    ck_assert_str_eq(bise_hex32(hex, digest), "ba7816bf8f01cfea414140de5dae2223"
                     "b00361a396177a9cb410ff61f20015ad");
    bise_sha256 *h = bise_sha256_new();
    bise_sha256_add(h, "a", 1);
    bise_sha256_add(h, "", 0);
    bise_sha256_add(h, "bc", 2);
    bise_sha256_finish(h, digest);
    ck_assert_str_eq(bise_hex32(hex, digest), "ba7816bf8f01cfea414140de5dae2223"
                     "b00361a396177a9cb410ff61f20015ad");
    char path[] = "/tmp/bise-sha-XXXXXX";
    close(mkstemp(path));
    ck_ok(bise_sha256_file(digest, path, &err));
    ck_assert_str_eq(bise_hex32(hex, digest), "e3b0c44298fc1c149afbf4c8996fb924"
                     "27ae41e4649b934ca495991b7852b855");
    unlink(path);
    ck_fails(bise_sha256_file(digest, path, &err), BISE_EIO);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("yaml");
    TCase *t = tcase_create("yaml");
    tcase_add_loop_test(t, reads_core_schema, 0, sizeof pairs / sizeof *pairs);
    tcase_add_loop_test(t, refuses_what_it_does_not_read, 0,
                        sizeof wrong / sizeof *wrong);
    tcase_add_test(t, refuses_deep_nesting);
    tcase_add_test(t, reads_front_matter);
    tcase_add_loop_test(t, dump_reads_back_equal, 0,
                        sizeof values / sizeof *values);
    tcase_add_test(t, dump_is_block_style);
    tcase_add_test(t, sha256_matches_the_standard);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
