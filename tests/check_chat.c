/* check_chat.c - every line of tests/golden/chat: conversations encoded by
 * mistral-common (ids, or an error where the version cannot express them),
 * masks of each way to train, errors that name the message, FIM, and JSON
 * rewritten as Python does.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/str.h"
#include "text/chat.h"
#include "text/pyjson.h"
#include "text/vocab.h"

static bise_error err;

static const char *shared_root(void)
{
    const char *root = getenv("BISE_SHARED");
    return root ? root : BISE_SRCDIR "/../shared";
}

/* The tokenizers of the golden lines. One Tekken file serves all versions:
 * they have the same ids, the format is asked for by name. The file of v2 is
 * not published beside the others; v3 has the same first control ids. */
typedef struct tokenizers {
    bise_tokenizer *v1, *v3, *v7, *tekken, *tiny;
} tokenizers;

static bise_tokenizer *load(const char *name)
{
    bise_tokenizer *t = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/data/tokenizers/%s", shared_root(), name);
    if (bise_file_exists(path))
        ck_ok(bise_tokenizer_load(&t, path, &err));
    else
        printf("skipped: no %s\n", name);
    return t;
}

/* The real Tekken file is written by a script from the published ranks. */
static bise_tokenizer *load_tekken(void)
{
    bise_tokenizer *t = NULL;
    char tool[4096], out[] = "/tmp/bise-check-chat-XXXXXX", command[8400];
    snprintf(tool, sizeof tool, "%s/tools/make_tekken.py", shared_root());
    const int fd = bise_file_exists(tool) ? mkstemp(out) : -1;
    if (fd < 0) {
        printf("skipped: no make_tekken.py\n");
        return NULL;
    }
    close(fd);
    snprintf(command, sizeof command, "python3 '%s' '%s' --version v13", tool,
             out);
    if (system(command) == 0)
        ck_ok(bise_tokenizer_load(&t, out, &err));
    else
        printf("skipped: make_tekken.py does not run\n");
    remove(out);
    return t;
}

static void open_tokenizers(tokenizers *t)
{
    t->v1 = load("sentencepiece/tokenizer.model.v1");
    t->v3 = load("sentencepiece/mistral_instruct_tokenizer_240323.model.v3");
    t->v7 = load("sentencepiece/mistral_instruct_tokenizer_241114.model.v7");
    t->tekken = load_tekken();
}

static void free_tokenizers(tokenizers *t)
{
    bise_tokenizer_free(t->v1);
    bise_tokenizer_free(t->v3);
    bise_tokenizer_free(t->v7);
    bise_tokenizer_free(t->tekken);
    bise_tokenizer_free(t->tiny);
}

/* Tokenizer and format name for a line; NULL when the file is not here. */
static const bise_tokenizer *tokenizer_of(const tokenizers *t,
                                          const bise_json *line, char *name)
{
    const char *file = bise_json_string(bise_json_get(line, "tokenizer"), NULL);
    const char *v = bise_json_string(bise_json_get(line, "version"), NULL);
    /* Lines of tiny.jsonl name no file: they are of the embedded one. */
    const bool tekken = !file || strncmp(file, "tekken", 6) == 0;
    const bool suffix = tekken && (!strcmp(v, "v3") || !strcmp(v, "v7"));
    snprintf(name, 32, "%s%s", v, suffix ? "-tekken" : "");
    if (!file)
        return t->tiny;
    if (tekken)
        return t->tekken;
    return !strcmp(v, "v1") ? t->v1 : !strcmp(v, "v7") ? t->v7 : t->v3;
}

static void check_line(const bise_tokenizer *t, const char *format,
                       const bise_json *line, int number)
{
    const bise_chat *chat;
    bise_sample s = { 0 };
    const bise_json *ids = bise_json_get(line, "ids");
    ck_ok(bise_chat_for(&chat, t, format, &err));
    bise_error_init(&err);
    const bise_status rc = bise_chat_encode(
        chat, t, bise_json_get(line, "messages"), bise_json_get(line, "tools"),
        BISE_TRAIN_ASSISTANT, &s, &err);
    if (bise_json_get(line, "error")) {
        ck_assert_msg(rc != BISE_OK, "line %d has an error", number);
        bise_sample_fini(&s);
        return;
    }
    ck_assert_msg(rc == BISE_OK, "line %d: %s", number, err.text);
    ck_assert_msg(s.ids.n == bise_json_size(ids), "line %d (%s): %zu ids, "
                  "must be %zu", number, format, s.ids.n,
                  bise_json_size(ids));
    for (size_t i = 0; i < s.ids.n; i++) {
        int64_t id = -1;
        ck_assert(bise_json_integer(bise_json_at(ids, i), &id));
        ck_assert_msg(id == s.ids.v[i], "line %d (%s) id %zu: %d, must be %d",
                      number, format, i, s.ids.v[i], (int)id);
    }
    bise_sample_fini(&s);
}

/* All lines of a golden file whose tokenizer is here; how many they were. */
static int check_golden(const char *path, const tokenizers *t)
{
    bise_str text = { 0 };
    int number = 0, done = 0;
    ck_ok(bise_file_read(&text, path, &err));
    for (char *at = text.data, *end; at && *at; at = end + 1) {
        bise_json *line = NULL;
        char format[32];
        end = strchr(at, '\n');
        ck_assert_ptr_nonnull(end);
        ck_ok(bise_json_parse(&line, at, (size_t)(end - at), &err));
        const bise_tokenizer *tok = tokenizer_of(t, line, format);
        number++;
        if (tok) {
            check_line(tok, format, line, number);
            done++;
        }
        bise_json_free(line);
    }
    bise_str_fini(&text);
    return done;
}

START_TEST(ids_equal_mistral_common)
{
    tokenizers t = { 0 };
    open_tokenizers(&t);
    const int n = check_golden(BISE_SRCDIR
                               "/tests/golden/chat/mistral-common.jsonl", &t);
    printf("%d golden conversations\n", n);
    free_tokenizers(&t);
}
END_TEST

static bise_tokenizer *tiny(void)
{
    bise_tokenizer *t = NULL;
    ck_ok(bise_tokenizer_load(&t, BISE_SRCDIR
                              "/examples/tiny-mistral3/tekken.json", &err));
    return t;
}

/* Needs nothing but the tree: every version with the embedded tokenizer. */
START_TEST(ids_of_the_embedded_tokenizer_equal_mistral_common)
{
    tokenizers t = { .tiny = tiny() };
    ck_assert_int_eq(check_golden(BISE_SRCDIR
                                  "/tests/golden/chat/tiny.jsonl", &t), 200);
    free_tokenizers(&t);
}
END_TEST

/* Encode messages given as JSON text; the mask as a string of 0 and 1. */
static bise_status encode(const bise_tokenizer *t, const char *format,
                          const char *messages, const char *tools,
                          bise_train_on on, bise_sample *s)
{
    const bise_chat *chat;
    bise_json *m = NULL, *tl = NULL;
    ck_ok(bise_chat_for(&chat, t, format, &err));
    ck_ok(bise_json_parse(&m, messages, strlen(messages), &err));
    if (tools)
        ck_ok(bise_json_parse(&tl, tools, strlen(tools), &err));
    s->ids.n = 0;
    s->turns = 0;
    bise_error_init(&err);
    const bise_status rc = bise_chat_encode(chat, t, m, tl, on, s, &err);
    bise_json_free(m);
    bise_json_free(tl);
    return rc;
}

/* The special and one-letter tokens of a sample, with * behind trained ones:
 * every other token is shown by its text. */
static void show(const bise_tokenizer *t, const bise_sample *s, bise_str *out)
{
    for (size_t i = 0; i < s->ids.n; i++) {
        const char *name = bise_tokenizer_special_name(t, s->ids.v[i]);
        size_t n;
        const char *piece = bise_tokenizer_piece(t, s->ids.v[i], &n);
        bise_str_add(out, name ? name : piece, name ? strlen(name) : n);
        if (s->mask[i])
            bise_str_putc(out, '*');
    }
}

static const struct {
    const char *format, *messages, *tools;
    bise_train_on on;
    int turns;
    const char *want;
} masks[] = {
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"},"
      "{\"role\":\"user\",\"content\":\"c\"},"
      "{\"role\":\"assistant\",\"content\":\"d\"}]", NULL,
      BISE_TRAIN_ASSISTANT, 2, "<s>[INST]a[/INST]b*</s>*[INST]c[/INST]d*</s>*"
    },
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"},"
      "{\"role\":\"user\",\"content\":\"c\"},"
      "{\"role\":\"assistant\",\"content\":\"d\"}]", NULL,
      BISE_TRAIN_LAST, 1, "<s>[INST]a[/INST]b</s>[INST]c[/INST]d*</s>*" },
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},"
      "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0},"
      "{\"role\":\"assistant\",\"content\":\"d\",\"weight\":1}]", NULL,
      BISE_TRAIN_ASSISTANT, 1, "<s>[INST]a[/INST]b</s>d*</s>*" },
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"}]", NULL,
      BISE_TRAIN_ALL, 1, "<s>[INST]*a*[/INST]*b*</s>*" },
    { "v13", "[{\"role\":\"system\",\"content\":\"s\"},"
      "{\"role\":\"user\",\"content\":\"a\"}]", NULL, BISE_TRAIN_ASSISTANT, 0,
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]a[/INST]" },
    { "v3-tekken", "[{\"role\":\"user\",\"content\":\"a\"},"
      "{\"role\":\"assistant\",\"content\":\"b \"}]", NULL,
      BISE_TRAIN_ASSISTANT, 1, "<s>[INST]a[/INST]b*</s>*" },
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
      "\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\"},"
      "{\"type\":\"text\",\"text\":\"b\"}]}]", NULL, BISE_TRAIN_ASSISTANT, 1,
      "<s>[INST]a[/INST][THINK]*t*[/THINK]*b*</s>*" },
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
      "\"reasoning_content\":\"t\",\"content\":\"b\"}]", NULL,
      BISE_TRAIN_ASSISTANT, 1, "<s>[INST]a[/INST][THINK]*t*[/THINK]*b*</s>*" },
    { "v13", "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
      "\"content\":\"\",\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":"
      "\"f\",\"arguments\":\"1\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"x\","
      "\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"b\"}]", NULL,
      BISE_TRAIN_ASSISTANT, 2, "<s>[INST]a[/INST][TOOL_CALLS]*f*[ARGS]*1*</s>*"
      "[TOOL_RESULTS]r[/TOOL_RESULTS]b*</s>*" },
    { "v11", "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
      "\"tool_calls\":[{\"id\":\"aaaaaaaa1\",\"function\":{\"name\":\"f\","
      "\"arguments\":\"1\"}},{\"id\":\"aaaaaaaa2\",\"function\":{\"name\":"
      "\"g\",\"arguments\":\"2\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
      "\"aaaaaaaa2\",\"content\":\"y\"},{\"role\":\"tool\",\"tool_call_id\":"
      "\"aaaaaaaa1\",\"content\":\"x\"},{\"role\":\"user\",\"content\":\"c\"}]",
      NULL, BISE_TRAIN_LAST, 1, NULL },
};

START_TEST(masks_cover_what_the_model_must_say)
{
    bise_tokenizer *t = tiny();
    bise_sample s = { 0 };
    bise_str text = { 0 };
    const bise_status rc = encode(t, masks[_i].format, masks[_i].messages,
                                  masks[_i].tools, masks[_i].on, &s);
    ck_assert_msg(rc == BISE_OK, "%s", err.text);
    ck_assert_int_eq(s.turns, masks[_i].turns);
    show(t, &s, &text);
    if (masks[_i].want)
        ck_assert_str_eq(bise_str_get(&text), masks[_i].want);
    else                /* results stand in the order of their calls */
        ck_assert_ptr_nonnull(strstr(bise_str_get(&text),
                                     "x[/TOOL_RESULTS][TOOL_RESULTS]"));
    bise_str_fini(&text);
    bise_sample_fini(&s);
    bise_tokenizer_free(t);
}
END_TEST

#define USER "{\"role\":\"user\",\"content\":\"a\"}"

static const struct { const char *format, *messages, *want; } faults[] = {
    { "v13", "[]", "empty" },
    { "v13", "[{\"role\":\"assistant\",\"content\":\"a\"}]", "message 1" },
    { "v13", "[{\"role\":\"robot\",\"content\":\"a\"}]", "'robot'" },
    { "v13", "[" USER ",{\"role\":\"tool\",\"tool_call_id\":\"x\","
      "\"content\":\"r\"}]", "message 2 (tool): may not follow" },
    { "v13", "[" USER ",{\"role\":\"assistant\",\"content\":\"\"}]",
      "neither a text nor tool calls" },
    { "v13", "[{\"role\":\"user\",\"content\":7}]", "'content'" },
    { "v13", "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
      "'image_url'" },
    { "v11", "[" USER ",{\"role\":\"assistant\",\"content\":[{\"type\":"
      "\"thinking\",\"thinking\":\"t\"}]}]", "'thinking'" },
    { "v13", "[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"function\":"
      "{\"name\":\"f\"}}]}]", "no 'id'" },
    { "v3-tekken", "[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{"
      "\"id\":\"short\",\"function\":{\"name\":\"f\"}}]}]", "'short'" },
    { "v13", "[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\","
      "\"function\":{\"name\":\"no blank\"}}]}]", "'no blank'" },
    { "v3-tekken", "[" USER ",{\"role\":\"assistant\",\"content\":\"b\","
      "\"tool_calls\":[{\"id\":\"abcdefghi\",\"function\":{\"name\":\"f\"}}]}]",
      "cannot have a text and tool calls" },
    { "v13", "[" USER ",{\"role\":\"assistant\",\"content\":\"b\","
      "\"weight\":0.5}]", "'weight'" },
    { "v13", "[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\","
      "\"function\":{\"name\":\"f\"}}]},{\"role\":\"assistant\",\"content\":"
      "\"b\"}]", "not as many results" },
    { "v13", "[" USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\","
      "\"function\":{\"name\":\"f\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
      "\"y\",\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"b\"}]",
      "'y'" },
    { "v15", "[" USER "]", NULL },
};

START_TEST(errors_name_message_and_reason)
{
    bise_tokenizer *t = tiny();
    bise_sample s = { 0 };
    const bise_status rc = encode(t, faults[_i].format, faults[_i].messages,
                                  NULL, BISE_TRAIN_ASSISTANT, &s);
    ck_assert_int_eq(rc == BISE_OK, faults[_i].want == NULL);
    if (faults[_i].want)
        ck_assert_msg(strstr(err.text, faults[_i].want), "%s", err.text);
    if (faults[_i].want)
        ck_assert_uint_eq(s.ids.n, 0);
    bise_sample_fini(&s);
    bise_tokenizer_free(t);
}
END_TEST

/* The embedded tokenizer as a v15 file with these rules; NULL rules for none.
 * The failure of the reader is left in err. */
static bise_tokenizer *make_v15(const char *rules)
{
    bise_json *root = NULL, *v = NULL;
    bise_tokenizer *t = NULL;
    bise_str text = { 0 };
    ck_ok(bise_json_load(&root, BISE_SRCDIR
                         "/examples/tiny-mistral3/tekken.json", &err));
    bise_json *list = bise_json_get(root, "special_tokens");
    ck_assert(!bise_json_set(bise_json_get(root, "config"), "version",
                             bise_json_new_string("v15")));
    ck_assert(!bise_json_set(bise_json_at(list, 30), "token_str",
                             bise_json_new_string("[MODEL_SETTINGS]")));
    ck_assert(!bise_json_set(bise_json_at(list, 31), "token_str",
                             bise_json_new_string("[/MODEL_SETTINGS]")));
    if (rules) {
        ck_ok(bise_json_parse(&v, rules, strlen(rules), &err));
        ck_assert(!bise_json_set(root, "model_settings_builder", v));
    }
    bise_json_dump(&text, root, 0, false);
    bise_error_init(&err);
    if (bise_tokenizer_parse(&t, "tekken.json", bise_str_get(&text), text.len,
                             &err) != BISE_OK)
        t = NULL;
    bise_str_fini(&text);
    bise_json_free(root);
    return t;
}

#define EFFORT "\"reasoning_effort\":{\"type\":\"enum\",\"values\":[\"none\"," \
               "\"high\"],\"accepts_none\":true,\"default\":\"high\"}"
#define SCHEMA "\"json_schema\":{\"type\":\"json_schema\"}"

/* What stands before [INST], or what the refusal says. */
static const struct { const char *rules, *options, *effort, *want; } asked[] =
{
    { "{" EFFORT "}", NULL, NULL, "{\"reasoning_effort\": \"high\"}" },
    { "{" EFFORT "}", "{\"reasoning_effort\":\"none\"}", "high",
      "{\"reasoning_effort\": \"none\"}" },
    { "{" EFFORT "}", "{\"reasoning_effort\":null}", "none",
      "{\"reasoning_effort\": \"none\"}" },
    { "{" EFFORT "}", "{\"reasoning_effort\":\"low\"}", NULL,
      "!does not have" },
    { "{" EFFORT "}", "{\"reasoning_effort\":\"huge\"}", NULL, "!'huge'" },
    { "{" EFFORT "}", "{\"reasoning_effort\":1}", NULL, "!not a string" },
    { "{" EFFORT "}", "{\"response_format\":{\"type\":\"json_object\"}}", NULL,
      "{\"reasoning_effort\": \"high\"}" },
    { "{" EFFORT "," SCHEMA "}",
      "{\"response_format\":{\"type\":\"json_object\"}}", NULL,
      "{\"json_schema\": {\"anyOf\": [{\"type\": \"object\"}, {\"type\": "
      "\"array\"}]}, \"reasoning_effort\": \"high\"}" },
    { "{" SCHEMA "}", "{\"response_format\":{\"type\":\"json_schema\","
      "\"json_schema\":{\"name\":\"n\",\"schema\":{\"type\":\"object\"}}}}",
      NULL, "{\"json_schema\": {\"type\": \"object\"}}" },
    { "{" SCHEMA "}", "{\"response_format\":{\"type\":\"text\"}}", NULL, "" },
    { "{" SCHEMA "}", "{\"response_format\":{\"type\":\"json_schema\"}}",
      NULL, "!'json_schema.schema'" },
    /* a vocabulary without the rules: what the row says, or nothing */
    { NULL, NULL, NULL, "" },
    { NULL, "{\"reasoning_effort\":\"low\"}", NULL,
      "{\"reasoning_effort\": \"low\"}" },
};

START_TEST(v15_says_its_settings)
{
    static const char user[] = "[{\"role\":\"user\",\"content\":\"a\"}]";
    bise_tokenizer *t = make_v15(asked[_i].rules);
    bise_json *messages = NULL, *options = NULL;
    const bise_chat *chat = NULL;
    const char *o = asked[_i].options, *want = asked[_i].want;
    bise_sample s = { 0 };
    bise_str text = { 0 }, all = { 0 };
    ck_ok(bise_json_parse(&messages, user, strlen(user), &err));
    if (o)
        ck_ok(bise_json_parse(&options, o, strlen(o), &err));
    ck_ok(bise_chat_for(&chat, t, NULL, &err));
    const bise_chat_request r = { .messages = messages, .options = options,
                                  .effort = asked[_i].effort };
    bise_error_init(&err);
    const bise_status rc = bise_chat_encode_request(chat, t, &r, &s, &err);
    if (*want == '!') {
        ck_assert(rc != BISE_OK && s.ids.n == 0);
        ck_assert_msg(strstr(err.text, want + 1) != NULL, "%s", err.text);
    } else {
        ck_assert_msg(rc == BISE_OK, "%s", err.text);
        if (*want)
            bise_str_printf(&all, "[MODEL_SETTINGS]%s[/MODEL_SETTINGS]", want);
        show(t, &s, &text);
        bise_str_printf(&all, "[INST]a[/INST]");
        ck_assert_str_eq(bise_str_get(&text) + strlen("<s>"),
                         bise_str_get(&all));
    }
    bise_str_fini(&text);
    bise_str_fini(&all);
    bise_sample_fini(&s);
    bise_json_free(options);
    bise_json_free(messages);
    bise_tokenizer_free(t);
}
END_TEST

static const struct { const char *rules, *field; } bad_rules[] = {
    { "[]", "'model_settings_builder'" },
    { "{\"reasoning_effort\":{\"default\":\"high\"}}", "values'" },
    { "{\"reasoning_effort\":{\"values\":[\"none\"]}}", "default' is absent" },
    { "{\"reasoning_effort\":{\"values\":[\"none\"],\"default\":\"max\"}}",
      "default' is max" },
};

START_TEST(bad_rules_are_named)
{
    bise_tokenizer *t = make_v15(bad_rules[_i].rules);
    ck_assert_ptr_null(t);
    ck_assert_msg(strstr(err.text, bad_rules[_i].field) != NULL, "%s",
                  err.text);
}
END_TEST

START_TEST(formats_are_chosen_and_refused)
{
    bise_tokenizer *t = tiny();
    const bise_chat *c;
    ck_ok(bise_chat_for(&c, t, NULL, &err));
    ck_assert_str_eq(bise_chat_name(c), "v13");
    ck_fails(bise_chat_for(&c, t, "v4", &err), BISE_EINVAL);
    bise_sample s = { 0 };
    bise_str text = { 0 };
    ck_ok(bise_chat_fim(t, "p", "", &s, &err));
    show(t, &s, &text);
    ck_assert_str_eq(bise_str_get(&text), "<s>[SUFFIX][PREFIX]p");
    bise_str_fini(&text);
    bise_sample_fini(&s);
    bise_tokenizer_free(t);
}
END_TEST

static const struct { const char *in, *out; } json[] = {
    { "{\"a\":1,\"b\":[1,2.50,1e3],\"a\":2}",
      "{\"a\": 2, \"b\": [1, 2.5, 1000.0]}" },
    { " [ ] ", "[]" }, { "{}", "{}" }, { "-0", "0" }, { "-0.0", "-0.0" },
    { "123456789012345678901234567890", "123456789012345678901234567890" },
    { "1e16", "1e+16" }, { "0.0001", "0.0001" }, { "0.00001", "1e-05" },
    { "1e400", "Infinity" }, { "NaN", "NaN" },
    { "123456789.123", "123456789.123" }, { "1E5", "100000.0" },
    { "\"\\u00e9\\ud83d\\ude00\\/\\u0001\"",
      "\"\xc3\xa9\xf0\x9f\x98\x80/\\u0001\"" },
    { "[true,false,null]", "[true, false, null]" },
    { "01", NULL }, { "1.", NULL }, { "[1,]", NULL }, { "{\"a\" 1}", NULL },
    { "\"\n\"", NULL }, { "nul", NULL }, { "", NULL }, { "1 2", NULL },
    { "'a'", NULL }, { "\"\\x\"", NULL }, { "[", NULL }, { "-", NULL },
    { "{\"a\":1", NULL }, { ".5", NULL }, { "+1", NULL },
};

START_TEST(json_is_rewritten_as_python_does)
{
    bise_str out = { 0 };
    const bool ok = bise_pyjson(&out, json[_i].in, strlen(json[_i].in));
    ck_assert_int_eq(ok, json[_i].out != NULL);
    ck_assert_str_eq(bise_str_get(&out), json[_i].out ? json[_i].out : "");
    bise_str_fini(&out);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("chat");
    TCase *t = tcase_create("chat");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, ids_equal_mistral_common);
    tcase_add_test(t, ids_of_the_embedded_tokenizer_equal_mistral_common);
    tcase_add_loop_test(t, masks_cover_what_the_model_must_say, 0,
                        (int)(sizeof masks / sizeof *masks));
    tcase_add_loop_test(t, errors_name_message_and_reason, 0,
                        (int)(sizeof faults / sizeof *faults));
    tcase_add_loop_test(t, v15_says_its_settings, 0,
                        sizeof asked / sizeof *asked);
    tcase_add_loop_test(t, bad_rules_are_named, 0,
                        sizeof bad_rules / sizeof *bad_rules);
    tcase_add_test(t, formats_are_chosen_and_refused);
    tcase_add_loop_test(t, json_is_rewritten_as_python_does, 0,
                        (int)(sizeof json / sizeof *json));
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
