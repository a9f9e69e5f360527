/* check_lineage.c - facts of origin: read from a card, from __metadata__ and
 * from GGUF keys, joined when adapters are merged, and the same after a way
 * through either format. Hostile texts are left out or kept as text.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <string.h>

#include "core/mem.h"
#include "core/str.h"
#include "model/lineage.h"

static bise_error err;

static bise_json *parse(const char *text)
{
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    return v;
}

/* The object as sorted JSON equals the text; frees v. */
static void same(bise_json *v, const char *want)
{
    bise_str s = { 0 };
    bise_json_dump(&s, v, 0, true);
    ck_assert_str_eq(bise_str_get(&s), want);
    bise_str_fini(&s);
    bise_json_free(v);
}

static bise_json *card(const char *facts, const char *text)
{
    bise_json *l = parse(facts);
    ck_assert_int_eq(bise_lineage_card(l, text, strlen(text)), 0);
    return l;
}

START_TEST(cards)
{
    same(card("{}", "---\nlicense: apache-2.0\nbase_model: a/b\n"
              "datasets: [x/y, z]\nlanguage: en\n---\ntext"),
         "{\"base_model\":[\"a/b\"],\"datasets\":[\"x/y\",\"z\"],"
         "\"language\":[\"en\"],\"license\":\"apache-2.0\"}");
    same(card("{}", "---\nlicense: other\nlicense_name: mrl\n---\n"),
         "{\"license\":\"mrl\",\"license_name\":\"mrl\"}");
    same(card("{}", "---\nlicense: [mit, apache-2.0]\n---\n"),
         "{\"license\":\"mit\"}");
    /* no front matter, a broken one, other types than texts */
    same(card("{}", "just words"), "{}");
    same(card("{}", "---\nlicense: [\n---\n"), "{}");
    same(card("{}", "---\nlicense: {a: b}\nbase_model: [[1], 2, a/c]\n---\n"),
         "{\"base_model\":[\"a/c\"]}");
    /* what the copied card of a base cannot know */
    same(card("{\"adapters\":1,\"base_model\":[\"m\"],\"datasets\":[\"d\"],"
              "\"license\":\"mrl\"}",
              "---\nlicense: apache-2.0\nbase_model: a/b\n---\n"),
         "{\"adapters\":1,\"base_model\":[\"m\"],\"datasets\":[\"d\"],"
         "\"license\":\"mrl\"}");
}
END_TEST

static const char full[] =
    "{\"adapters\":2,\"base_model\":[\"acme/Big-Model\",\"local\"],"
    "\"datasets\":[\"acme/fish\",\"rows.jsonl\"],"
    "\"history\":[\"bise merge a  # bise 1\",\"bise convert b  # bise 1\"],"
    "\"license\":\"mrl\",\"license_link\":\"https://x/y\","
    "\"license_name\":\"mrl\",\"license_warning\":\"not Apache-2.0\"}";

START_TEST(through_metadata)
{
    bise_json *l = parse(full);
    bise_json *st = bise_lineage_to_st(l);
    ck_assert_ptr_nonnull(st);
    ck_assert_str_eq(bise_json_string(bise_json_get(st, "format"), NULL),
                     "pt");
    ck_assert_str_eq(bise_json_string(bise_json_get(st, "datasets"), NULL),
                     "acme/fish, rows.jsonl");
    ck_assert_ptr_nonnull(bise_json_get(st, "bise_version"));
    bise_json *back = bise_lineage_of_st(st);
    bise_json_remove(bise_json_get(back, "metadata"), "format");
    ck_assert_uint_eq(bise_json_size(bise_json_get(back, "metadata")), 0);
    bise_json_remove(back, "metadata");
    same(back, full);
    bise_json_free(st);
    bise_json_free(l);
    /* what others wrote stays, no metadata is no facts */
    l = parse("{\"format\":\"np\",\"who\":\"me\",\"adapters\":\"-3\"}");
    back = bise_lineage_of_st(l);
    same(back, "{\"metadata\":{\"format\":\"np\",\"who\":\"me\"}}");
    bise_json_free(l);
    same(bise_lineage_of_st(NULL), "{}");
}
END_TEST

START_TEST(through_keys)
{
    bise_gguf_meta m = { 0 };
    bise_json *l = parse(full);
    size_t n = 0;
    bise_lineage_to_gguf(&m, l);
    ck_assert(!m.failed);
    const char *s = bise_gguf_str(&m, "general.base_model.0.name", &n);
    ck_assert(s && n == 9 && memcmp(s, "Big Model", n) == 0);
    s = bise_gguf_str(&m, "general.dataset.1.name", &n);
    ck_assert(s && n == 10 && memcmp(s, "rows.jsonl", n) == 0);
    same(bise_lineage_of_gguf(&m), full);
    /* a shorter list leaves no entry of the longer one */
    bise_json *less = parse("{\"base_model\":[\"one\"]}");
    bise_lineage_to_gguf(&m, less);
    ck_assert_ptr_null(bise_gguf_get(&m, "general.base_model.1.name"));
    ck_assert_ptr_null(bise_gguf_get(&m, "general.license"));
    ck_assert_ptr_null(bise_gguf_get(&m, "bise.license.warning"));
    bise_json *back = bise_lineage_of_gguf(&m);
    ck_assert_uint_eq(bise_json_size(bise_json_get(back, "base_model")), 1);
    bise_json_free(back);
    bise_json_free(less);
    bise_json_free(l);
    bise_gguf_meta_fini(&m);
    same(bise_lineage_of_gguf(NULL), "{}");
}
END_TEST

/* Names that another converter chose are not written anew. */
START_TEST(keys_of_others)
{
    bise_gguf_meta m = { 0 };
    size_t n = 0;
    bise_gguf_set_u32(&m, "general.base_model.count", 1);
    bise_gguf_set_str(&m, "general.base_model.0.name", "A Fine Name");
    bise_gguf_set_str(&m, "general.base_model.0.repo_url",
                      "https://huggingface.co/a/b-c");
    bise_json *l = bise_lineage_of_gguf(&m);
    bise_lineage_to_gguf(&m, l);
    const char *s = bise_gguf_str(&m, "general.base_model.0.name", &n);
    ck_assert(s && n == 11 && memcmp(s, "A Fine Name", n) == 0);
    bise_json_free(l);
    /* counts and types that make no sense */
    bise_gguf_set_u32(&m, "general.base_model.count", UINT32_MAX);
    bise_gguf_set_u32(&m, "general.license", 3);
    bise_gguf_set_str(&m, "bise.history", "text");
    bise_gguf_set_strn(&m, "general.dataset.0.name", "a\0b", 3);
    bise_gguf_set_u32(&m, "general.dataset.count", 1);
    l = bise_lineage_of_gguf(&m);
    ck_assert_ptr_nonnull(l);
    ck_assert_str_eq(bise_lineage_licence(l), "");
    ck_assert_ptr_null(bise_json_get(l, "history"));
    bise_json_free(l);
    bise_gguf_meta_fini(&m);
}
END_TEST

/* made() of a model and up to two adapters. */
static bise_json *made(const char *model, const char *name, const char *a,
                       const char *b)
{
    bise_json *m = parse(model), *x = a ? parse(a) : NULL;
    bise_json *y = b ? parse(b) : NULL;
    const bise_json *const list[] = { x, y };
    bise_json *l = bise_lineage_made(m, name, list, !!a + !!b);
    bise_json_free(m);
    bise_json_free(x);
    bise_json_free(y);
    return l;
}

START_TEST(merging)
{
    same(made("{\"license\":\"Apache-2.0\",\"base_model\":[\"a/b\"]}", "m",
              NULL, NULL),
         "{\"base_model\":[\"a/b\"],\"license\":\"Apache-2.0\"}");
    same(made("{}", "m", NULL, NULL), "{\"license_warning\":\"unknown\"}");
    /* the warning goes with its reason */
    same(made("{\"license\":\"apache-2.0\",\"license_warning\":\"unknown\"}",
              "m", NULL, NULL), "{\"license\":\"apache-2.0\"}");
    same(made("{\"adapters\":1,\"datasets\":[\"d\"],\"history\":[\"h\"],"
              "\"license\":\"apache-2.0\"}", "m",
              "{\"datasets\":[\"e\",\"d\"],\"history\":[\"i\"],"
              "\"license\":\"apache-2.0\",\"base_model\":[\"org/m\"]}", NULL),
         "{\"adapters\":2,\"base_model\":[\"org/m\"],\"datasets\":[\"d\","
         "\"e\"],\"history\":[\"h\",\"i\"],\"license\":\"apache-2.0\"}");
    /* an id of another model, or a path, is not this one's name */
    same(made("{\"license\":\"apache-2.0\"}", "m",
              "{\"license\":\"mrl\",\"base_model\":[\"./x/m\"]}", "{}"),
         "{\"adapters\":2,\"base_model\":[\"m\"],\"license\":\"mrl\","
         "\"license_warning\":\"not Apache-2.0\"}");
    same(made("{\"license\":\"apache-2.0\"}", "m", "{}", NULL),
         "{\"adapters\":1,\"base_model\":[\"m\"],\"license\":\"apache-2.0\","
         "\"license_warning\":\"an adapter's is unknown\"}");
}
END_TEST

START_TEST(names_are_no_paths)
{
    static const struct { const char *text, *want; } t[] = {
        { "org/name", "org/name" }, { "name", "name" }, { "", "" },
        { "/home/joe/models/M-3B", "M-3B" }, { "./m", "m" }, { "~/m/", "m" },
        { "../m", "m" }, { "runs/a/m", "m" }, { "C:\\models\\m", "m" },
        { "/", "" } };
    char out[64];
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bise_lineage_name(out, sizeof out, t[i].text);
        ck_assert_str_eq(out, t[i].want);
    }
    bise_lineage_name(out, 4, "org/name");
    ck_assert_str_eq(out, "org");
}
END_TEST

START_TEST(terms_are_known_by_name)
{
    static const char *const yes[] = { "LICENSE", "LICENSE.txt", "LICENCE",
        "Licence.md", "COPYING" };
    static const char *const no[] = { "NOTICE", "LICENSES", "licensed.json",
        "README.md", "" };
    for (size_t i = 0; i < 5; i++) {
        ck_assert(bise_lineage_is_licence(yes[i]));
        ck_assert(!bise_lineage_is_licence(no[i]));
        ck_assert(!bise_lineage_is_notice(yes[i]));
    }
    ck_assert(bise_lineage_is_notice("NOTICE"));
    ck_assert(bise_lineage_is_notice("NOTICE.txt"));
    ck_assert(!bise_lineage_is_notice("NOTICES"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lineage");
    TCase *t = tcase_create("facts");
    tcase_add_test(t, cards);
    tcase_add_test(t, through_metadata);
    tcase_add_test(t, through_keys);
    tcase_add_test(t, keys_of_others);
    tcase_add_test(t, merging);
    tcase_add_test(t, names_are_no_paths);
    tcase_add_test(t, terms_are_known_by_name);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
