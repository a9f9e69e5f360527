/* check_schema.c - tests of text/schema: which keys make which format, what
 * each format becomes, what each refuses and in which words, and what is left
 * after a row that failed half way.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/data_fixture.h"
#include "text/schema.h"

/* Options of a plain run with the fixture's tokenizer and chat format. */
static bise_dataset_options plain(void)
{
    return (bise_dataset_options) { .tokenizer = fixture_tok,
                                    .chat = fixture_chat };
}

/* Encode a row given as text with some options; the samples go to out. */
static bise_status encode_with(const char *row, const bise_dataset_options *o,
                               bise_samples *out, bise_error *err)
{
    bise_json *v = NULL;
    bise_error_init(err);
    bise_status s = bise_json_parse(&v, row, strlen(row), err);
    ck_assert_msg(s == BISE_OK, "%s in %s", err->text, row);
    const bise_schema *f = bise_schema_of(v);
    ck_assert_msg(f != NULL, "no format: %s", row);
    s = bise_schema_encode(f, v, o, out, err);
    bise_json_free(v);
    return s;
}

static bise_status encode(const char *row, bise_samples *out, bise_error *err)
{
    const bise_dataset_options o = plain();
    return encode_with(row, &o, out, err);
}

/* Text of sample i with special tokens, trained runs in braces. */
static char *text_of(const bise_samples *s, size_t i)
{
    bise_error err;
    bise_str out = { 0 };
    const size_t from = i ? s->end[i - 1] : 0;
    bool trained = false;
    for (size_t k = from; k < s->end[i]; k++) {
        const bool now = s->all.mask[k] != 0;
        if (now != trained)
            bise_str_puts(&out, now ? "{" : "}");
        trained = now;
        ck_ok(bise_tokenizer_decode(fixture_tok, &s->all.ids.v[k], 1, true,
                                    &out, &err));
    }
    if (trained)
        bise_str_putc(&out, '}');
    return bise_str_take(&out);
}

/* The samples of a row, one a line. */
static void check_text(const char *row, const bise_dataset_options *o,
                       const char *want)
{
    bise_error err;
    bise_samples s = { 0 };
    bise_str got = { 0 };
    const bise_status st = encode_with(row, o, &s, &err);
    ck_assert_msg(st == BISE_OK, "%s: %s", row, err.text);
    for (size_t i = 0; i < s.n; i++) {
        char *t = text_of(&s, i);
        bise_str_printf(&got, "%s%s", i ? "\n" : "", t);
        bise_free(t);
    }
    ck_assert_str_eq(bise_str_get(&got), want);
    bise_str_fini(&got);
    bise_samples_fini(&s);
}

/* --- which format ------------------------------------------------------ */

static const struct { const char *row, *name; bool pair; } kinds[] = {
    { "{\"messages\":[]}", "messages", false },
    { "{\"messages\":null,\"text\":\"x\"}", "messages", false },
    { "{\"interactions\":[]}", "interactions", false },
    { "{\"conversations\":[]}", "sharegpt", false },
    { "{\"instruction\":1,\"output\":2}", "alpaca", false },
    { "{\"instruction\":1,\"output\":2,\"input\":3}", "alpaca", false },
    { "{\"instruction\":1,\"instances\":[]}", "instances", false },
    { "{\"prompt\":1,\"completion\":2}", "prompt/completion", false },
    { "{\"question\":1,\"answer\":2}", "question/answer", false },
    { "{\"input\":1,\"output\":2}", "input/output", false },
    { "{\"input_ids\":[]}", "tokens", false },
    { "{\"text\":1}", "text", false },
    { "{\"content\":1}", "text", false },
    { "{\"chosen\":1,\"rejected\":2}", "preference", true },
    { "{\"prompt\":0,\"chosen\":1,\"rejected\":2}", "preference", true },
    { "{\"messages\":0,\"chosen\":1,\"rejected\":2}", "preference", true },
    { "{\"preferred_output\":1,\"non_preferred_output\":2}", "preference",
      true },
    { "{\"instruction\":1,\"response\":2,\"context\":3}", "dolly", false },
    { "{\"system_prompt\":0,\"question\":1,\"response\":2}",
      "question/response", false },
    { "{\"query\":1,\"response\":2}", "query/response", false },
    { "{\"prompt\":1,\"response\":2}", "prompt/response", false },
    { "{\"problem\":1,\"solution\":2}", "problem/solution", false },
    { "{\"inputs\":1,\"targets\":2}", "inputs/targets", false },
    { "{\"segments\":[]}", "segments", false },
    { "{\"prefix\":1,\"suffix\":2,\"middle\":3}", "fim", false },
    { "{\"prompt\":1,\"suffix\":\"x\",\"completion\":3}", "fim", false },
    { "{\"prompt\":1,\"suffix\":null,\"completion\":3}",
      "prompt/completion", false },
    { "{\"prompt\":1,\"completion\":2,\"label\":true}", "kto", false },
    { "{\"prompt\":1,\"completion\":2,\"label\":\"x\"}",
      "prompt/completion", false },
    { "{\"messages\":1,\"kto_tag\":false}", "kto", false },
    { "{\"conversations\":1,\"kto_tag\":false}", "kto", false },
    { "{\"prompt\":1}", NULL, false },
    { "{\"completion\":1}", NULL, false },
    { "{\"instruction\":1}", NULL, false },
    { "{\"chosen\":1}", NULL, false },
    { "{\"question\":1,\"output\":1}", NULL, false },
    { "{}", NULL, false },
    { "[]", NULL, false },
    { "\"text\"", NULL, false },
};

START_TEST(keys_decide_the_format)
{
    bise_error err;
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, kinds[_i].row, strlen(kinds[_i].row), &err));
    const bise_schema *f = bise_schema_of(v);
    if (!kinds[_i].name) {
        ck_assert_ptr_null(f);
    } else {
        ck_assert_ptr_nonnull(f);
        ck_assert_str_eq(bise_schema_name(f), kinds[_i].name);
        ck_assert_int_eq(bise_schema_use_of(f) == BISE_FOR_PAIRS,
                         kinds[_i].pair);
    }
    bise_json_free(v);
}
END_TEST

/* --- what a row becomes (v13) ------------------------------------------ */

static const struct { const char *row, *text; } becomes[] = {
    { "{\"text\":\"ab\"}", "<s>{ab</s>}" },
    { "{\"content\":\"ab\"}", "<s>{ab</s>}" },
    { "{\"text\":\"\"}", "<s>{</s>}" },
    /* special tokens of user text are text */
    { "{\"text\":\"[INST]\"}", "<s>{[INST]</s>}" },
    { "{\"prompt\":\"q\",\"completion\":\"a\"}",
      "<s>[INST]q[/INST]{a</s>}" },
    { "{\"prompt\":\"q\",\"completion\":\"a\",\"system\":\"s\"}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}" },
    { "{\"question\":\"q\",\"answer\":\"a\",\"system\":\"s\"}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}" },
    { "{\"input\":\"q\",\"output\":\"a\"}", "<s>[INST]q[/INST]{a</s>}" },
    { "{\"instruction\":\"do\",\"input\":\"it\",\"output\":\"a\"}",
      "<s>[INST]do\nit[/INST]{a</s>}" },
    { "{\"instruction\":\"do\",\"input\":null,\"output\":\"a\","
      "\"system\":\"s\"}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]do[/INST]{a</s>}" },
    { "{\"instruction\":\"do\",\"output\":\"a\",\"history\":[[\"x\",\"y\"],"
      "[\"z\",\"w\"]]}",
      "<s>[INST]x[/INST]{y</s>}[INST]z[/INST]{w</s>}[INST]do[/INST]{a</s>}" },
    { "{\"instruction\":\"do\",\"instances\":[{\"input\":\"1\",\"output\":"
      "\"a\"},{\"input\":\"\",\"output\":\"b\"}]}",
      "<s>[INST]do\n1[/INST]{a</s>}\n<s>[INST]do[/INST]{b</s>}" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
      "{\"role\":\"assistant\",\"content\":\"a\"},"
      "{\"role\":\"user\",\"content\":\"r\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"}]}",
      "<s>[INST]q[/INST]{a</s>}[INST]r[/INST]{b</s>}" },
    /* a masked turn, and one that spells the default */
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
      "{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0},"
      "{\"role\":\"user\",\"content\":\"r\"},"
      "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":1}]}",
      "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
      "\"text\":\"q\"}]},{\"role\":\"assistant\",\"content\":\"a\"}]}",
      "<s>[INST]q[/INST]{a</s>}" },
    { "{\"interactions\":[{\"role\":\"user\",\"text\":\"q\"},"
      "{\"role\":\"assistant\",\"text\":\"a\"}],\"system_prompt\":\"s\"}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}" },
    /* only_last: each turn once, as the end of its own sample */
    { "{\"only_last\":true,\"messages\":["
      "{\"role\":\"user\",\"content\":\"q\"},"
      "{\"role\":\"assistant\",\"content\":\"a\"},"
      "{\"role\":\"user\",\"content\":\"r\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"}]}",
      "<s>[INST]q[/INST]{a</s>}\n"
      "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}" },
    { "{\"only_last\":true,\"messages\":["
      "{\"role\":\"user\",\"content\":\"q\"},"
      "{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0},"
      "{\"role\":\"user\",\"content\":\"r\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"}]}",
      "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}" },
    /* ShareGPT under all of its names */
    { "{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},"
      "{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":"
      "\"a\"},{\"role\":\"user\",\"content\":\"r\"},"
      "{\"role\":\"assistant\",\"content\":\"b\"}]}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}"
      "[INST]r[/INST]{b</s>}" },
    { "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},"
      "{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\","
      "\\\"arguments\\\":{\\\"x\\\":1}}\"},"
      "{\"from\":\"observation\",\"value\":\"2\"},"
      "{\"from\":\"gpt\",\"value\":\"a\"}]}",
      "<s>[INST]q[/INST]{[TOOL_CALLS]f[ARGS]{\"x\": 1}</s>}"
      "[TOOL_RESULTS]2[/TOOL_RESULTS]{a</s>}" },
    /* prompt and completion as lists: earlier answers are context */
    { "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"},"
      "{\"role\":\"assistant\",\"content\":\"a\"},"
      "{\"role\":\"user\",\"content\":\"r\"}],"
      "\"completion\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
      "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}" },
    { "{\"prompt\":\"q\",\"completion\":{\"role\":\"assistant\","
      "\"content\":\"a\"}}", "<s>[INST]q[/INST]{a</s>}" },
    /* preference: chosen, then rejected */
    { "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}",
      "<s>[INST]q[/INST]{a</s>}\n<s>[INST]q[/INST]{b</s>}" },
    { "{\"instruction\":\"do\",\"input\":\"it\",\"chosen\":\"a\","
      "\"rejected\":\"b\"}",
      "<s>[INST]do\nit[/INST]{a</s>}\n<s>[INST]do\nit[/INST]{b</s>}" },
    { "{\"question\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}",
      "<s>[INST]q[/INST]{a</s>}\n<s>[INST]q[/INST]{b</s>}" },
    /* a question with a context, below it as alpaca's input is */
    { "{\"question\":\"q\",\"context\":\"c\",\"answer\":\"a\"}",
      "<s>[INST]q\nc[/INST]{a</s>}" },
    { "{\"instruction\":\"do\",\"context\":\"it\",\"response\":\"a\",\"categ"
      "ory\":\"x\"}",
      "<s>[INST]do\nit[/INST]{a</s>}" },
    { "{\"instruction\":\"do\",\"context\":\"\",\"response\":\"a\"}",
      "<s>[INST]do[/INST]{a</s>}" },
    { "{\"system_prompt\":\"s\",\"question\":\"q\",\"response\":\"a\"}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}" },
    { "{\"system\":\"\",\"question\":\"q\",\"response\":\"a\"}",
      "<s>[INST]q[/INST]{a</s>}" },
    /* columns of a table that are null in this row */
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"tool_calls\":nu"
      "ll,\"tool_call_id\":null,\"weight\":null},{\"role\":\"assistant\",\"c"
      "ontent\":\"a\",\"tool_calls\":null,\"name\":null}],\"tools\":null,\"s"
      "ystem\":null}",
      "<s>[INST]q[/INST]{a</s>}" },
    /* a system text beside the messages, unless they have one */
    { "{\"system\":\"s\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}"
      ",{\"role\":\"assistant\",\"content\":\"a\"}]}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}" },
    { "{\"system\":\"s\",\"messages\":[{\"role\":\"system\",\"content\":\"t"
      "\"},{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"c"
      "ontent\":\"a\"}]}",
      "<s>[SYSTEM_PROMPT]t[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}" },
    /* other ways to mask a turn */
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assi"
      "stant\",\"content\":\"a\",\"train\":false},{\"role\":\"user\",\"conte"
      "nt\":\"r\"},{\"role\":\"assistant\",\"content\":\"b\",\"train\":true}"
      "]}",
      "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}" },
    { "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\""
      "gpt\",\"value\":\"a\",\"loss\":false},{\"from\":\"human\",\"value\":"
      "\"r\"},{\"from\":\"gpt\",\"value\":\"b\",\"weight\":1}]}",
      "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}" },
    { "{\"messages\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\""
      ",\"value\":\"a\"}]}",
      "<s>[INST]q[/INST]{a</s>}" },
    /* calls and results without ids belong together in order */
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assi"
      "stant\",\"content\":null,\"tool_calls\":[{\"type\":\"function\",\"fun"
      "ction\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}},{\"type\":"
      "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":"
      "1}\"}}]},{\"role\":\"tool\",\"content\":\"1\"},{\"role\":\"tool\",\"c"
      "ontent\":\"2\"},{\"role\":\"assistant\",\"content\":\"a\"}]}",
      "<s>[INST]q[/INST]{[TOOL_CALLS]f[ARGS]{\"x\": 1}[TOOL_CALLS]f[ARGS]{\""
      "x\": 1}</s>}[TOOL_RESULTS]1[/TOOL_RESULTS][TOOL_RESULTS]2[/TOOL_RESUL"
      "TS]{a</s>}" },
    /* OpenAI's older form */
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assi"
      "stant\",\"content\":null,\"function_call\":{\"name\":\"f\",\"argument"
      "s\":\"{}\"}},{\"role\":\"function\",\"name\":\"f\",\"content\":\"1\"}"
      ",{\"role\":\"assistant\",\"content\":\"a\"}]}",
      "<s>[INST]q[/INST]{[TOOL_CALLS]f[ARGS]{}</s>}[TOOL_RESULTS]1[/TOOL_RES"
      "ULTS]{a</s>}" },
    { "{\"only_last\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q"
      "\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type"
      "\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\"
      "\":1}\"},\"id\":\"call_1\"}]}]}",
      "<s>[INST]q[/INST]{[TOOL_CALLS]f[ARGS]{\"x\": 1}</s>}" },
    /* answers that are whole conversations */
    { "{\"prompt\":\"q\",\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{"
      "\"role\":\"assistant\",\"content\":\"a\"}],\"rejected\":[{\"role\":\""
      "user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"b\"}]"
      "}",
      "<s>[INST]q[/INST]{a</s>}\n<s>[INST]q[/INST]{b</s>}" },
    { "{\"system\":\"s\",\"question\":\"q\",\"chosen\":\"a\",\"rejected\":\""
      "b\"}",
      "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{a</s>}\n<s>[SYSTEM_"
      "PROMPT]s[/SYSTEM_PROMPT][INST]q[/INST]{b</s>}" },
    /* a text with a gap */
    { "{\"prefix\":\"p\",\"suffix\":\"s\",\"middle\":\"m\"}",
      "<s>[SUFFIX]s[PREFIX]p{m</s>}" },
    { "{\"prompt\":\"p\",\"suffix\":\"s\",\"completion\":\"\"}",
      "<s>[SUFFIX]s[PREFIX]p{</s>}" },
    /* parts with the special tokens written out */
    { "{\"segments\":[{\"label\":false,\"text\":\"<s>[INST]q[/INST]\"},{\"la"
      "bel\":true,\"text\":\"a</s>\"}]}",
      "<s>[INST]q[/INST]{a</s>}" },
    { "{\"segments\":[{\"label\":true,\"text\":\"q\"},{\"label\":false,\"tex"
      "t\":\"a\"}]}",
      "<s>{q}a" },
    { "{\"prompt\":\"q\",\"completion\":\"a\",\"label\":false}",
      "<s>[INST]q[/INST]{a</s>}" },
};

START_TEST(rows_become_conversations)
{
    const bise_dataset_options o = plain();
    check_text(becomes[_i].row, &o, becomes[_i].text);
}
END_TEST

/* Which tokens carry the loss is the run's choice. */
START_TEST(train_on_selects_the_tokens)
{
    static const char row[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
        "{\"role\":\"assistant\",\"content\":\"a\"},"
        "{\"role\":\"user\",\"content\":\"r\"},"
        "{\"role\":\"assistant\",\"content\":\"b\"}]}";
    bise_dataset_options o = plain();
    o.train_on = BISE_TRAIN_LAST;
    check_text(row, &o, "<s>[INST]q[/INST]a</s>[INST]r[/INST]{b</s>}");
    o.train_on = BISE_TRAIN_ASSISTANT;
    check_text(row, &o, "<s>[INST]q[/INST]{a</s>}[INST]r[/INST]{b</s>}");
    o.train_on = BISE_TRAIN_ALL;
    bise_error err;
    bise_samples s = { 0 };
    ck_ok(encode_with(row, &o, &s, &err));
    for (size_t i = 1; i < s.all.ids.n; i++)
        ck_assert_int_eq(s.all.mask[i], 1);
    bise_samples_fini(&s);
}
END_TEST

/* Up to v11 tools stand before the last user turn, so every trained turn is a
 * conversation of its own; from v13 on they stand first and one is enough. */
START_TEST(tools_follow_the_version)
{
    static const char row[] =
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},"
        "{\"from\":\"gpt\",\"value\":\"a\"},"
        "{\"from\":\"human\",\"value\":\"r\"},"
        "{\"from\":\"gpt\",\"value\":\"b\"}],"
        "\"tools\":\"[{\\\"name\\\":\\\"f\\\",\\\"description\\\":\\\"d\\\","
        "\\\"parameters\\\":{}}]\"}";
    static const char tools[] =
        "[AVAILABLE_TOOLS][{\"type\": \"function\", \"function\": "
        "{\"name\": \"f\", \"description\": \"d\", \"parameters\": {}}}]"
        "[/AVAILABLE_TOOLS]";
    bise_error err;
    bise_str want = { 0 };
    bise_dataset_options o = plain();
    bise_str_printf(&want, "<s>%s[INST]q[/INST]{a</s>}[INST]r[/INST]{b</s>}",
                    tools);
    check_text(row, &o, want.data);
    ck_ok(bise_chat_for(&o.chat, fixture_tok, "v3-tekken", &err));
    bise_str_clear(&want);
    bise_str_printf(&want, "<s>%s[INST]q[/INST]{a</s>}\n"
                    "<s>[INST]q[/INST]a</s>%s[INST]r[/INST]{b</s>}", tools,
                    tools);
    check_text(row, &o, want.data);
    bise_str_fini(&want);
}
END_TEST

/* --- what a row may not be --------------------------------------------- */

#define U "{\"role\":\"user\",\"content\":\"x\"}"
#define A "{\"role\":\"assistant\",\"content\":\"y\"}"

static const struct { const char *row, *words; } wrong[] = {
    { "{\"text\":null}", "'text' is not a string" },
    { "{\"text\":[\"x\"]}", "'text' is not a string" },
    { "{\"messages\":{}}", "the messages are not an array" },
    { "{\"messages\":[]}", "the message list is empty" },
    { "{\"messages\":[null," A "]}", "message 1 is not an object" },
    { "{\"messages\":[" U ",[]]}", "message 2 is not an object" },
    { "{\"messages\":[" U ",{\"content\":\"y\"}]}", "message 2 has no 'role'" },
    { "{\"messages\":[" U ",{\"role\":1}]}", "message 2 has no 'role'" },
    { "{\"messages\":[{\"role\":\"User\",\"content\":\"x\"}," A "]}",
      "message 1 has the role 'User'" },
    { "{\"messages\":[" U ",{\"role\":\"assistant\"}]}",
      "message 2 (assistant) has no 'content'" },
    { "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":null}]}",
      "message 2 (assistant) has no 'content'" },
    { "{\"messages\":[" A "]}", "message 1 is the assistant's" },
    { "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"}," A "]}",
      "message 2 is the assistant's" },
    { "{\"messages\":[" U "]}", "the last message is not the assistant's" },
    { "{\"messages\":[" U "," A "," U "]}",
      "the last message is not the assistant's" },
    { "{\"messages\":[" U "," A "],\"tools\":{}}", "'tools' is not an array" },
    { "{\"conversations\":{}}", "'conversations' is not an array" },
    { "{\"conversations\":[]}", "the message list is empty" },
    { "{\"conversations\":[{\"from\":\"human\"}]}",
      "turn 1 has no 'value' string" },
    { "{\"conversations\":[{\"value\":\"x\"}]}",
      "turn 1 has no 'from' string" },
    { "{\"conversations\":[{\"from\":\"human\",\"value\":\"x\"},"
      "{\"from\":\"dog\",\"value\":\"y\"}]}", "turn 2 is from 'dog'" },
    { "{\"conversations\":[{\"from\":\"human\",\"value\":\"x\"},"
      "{\"from\":\"function_call\",\"value\":\"{\"}]}", "invalid JSON" },
    { "{\"conversations\":[{\"from\":\"human\",\"value\":\"x\"},"
      "{\"from\":\"gpt\",\"value\":\"y\"}],\"tools\":\"[\"}",
      "invalid JSON" },
    { "{\"instruction\":7,\"output\":\"x\"}", "'instruction' is not a string" },
    { "{\"instruction\":\"x\",\"output\":[]}", "'output' is not a string" },
    { "{\"instruction\":\"x\",\"input\":3,\"output\":\"y\"}",
      "'input' is not a string" },
    { "{\"instruction\":\"x\",\"system\":3,\"output\":\"y\"}",
      "'system' is not a string" },
    { "{\"instruction\":\"x\",\"output\":\"y\",\"history\":[[\"a\"]]}",
      "turn 1 of 'history' is not a pair of strings" },
    { "{\"instruction\":\"x\",\"instances\":{}}",
      "'instances' has no elements" },
    { "{\"instruction\":\"x\",\"instances\":[{\"input\":\"\"}]}",
      "'output' is not a string" },
    { "{\"prompt\":3,\"completion\":\"x\"}",
      "the user's part is neither a string nor messages" },
    { "{\"prompt\":\"x\",\"completion\":3}",
      "the assistant's part is neither a string nor messages" },
    { "{\"prompt\":[],\"completion\":\"x\"}", "message 1 is the assistant's" },
    { "{\"question\":\"x\",\"answer\":null}", "'answer' is not a string" },
    { "{\"question\":null,\"answer\":\"x\"}", "'question' is not a string" },
    { "{\"input\":\"x\",\"output\":1}", "'output' is not a string" },
    { "{\"input_ids\":\"1 2\"}", "'input_ids' is not an array" },
    { "{\"input_ids\":[1,-1]}", "input_ids[1] is not an id" },
    { "{\"input_ids\":[1,4096]}", "input_ids[1] is not an id" },
    { "{\"input_ids\":[1.5]}", "input_ids[0] is not an id" },
    { "{\"input_ids\":[1,2],\"labels\":[1,\"x\"]}", "labels[1] is no number" },
    { "{\"input_ids\":[1,2],\"labels\":[1,2,3]}", "3 labels for 2 input_ids" },
    { "{\"chosen\":\"a\",\"rejected\":\"b\"}", "message 1 is the assistant's" },
    { "{\"prompt\":\"x\",\"chosen\":\"a\",\"rejected\":5}",
      "the assistant's part is neither" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assi"
      "stant\",\"content\":\"a\"}],\"tools\":\"{}\"}",
      "'tools' is not an array" },
    { "{\"segments\":[]}",
      "'segments' has no elements" },
    { "{\"segments\":[{\"text\":\"x\"}]}",
      "segment 1 is not a 'text'" },
    { "{\"prefix\":\"p\",\"suffix\":\"s\",\"middle\":3}",
      "'middle' is not a plain string" },
    { "{\"prefix\":\"p\\u0000q\",\"suffix\":\"s\",\"middle\":\"m\"}",
      "'prefix' is not a plain string" },
};

START_TEST(faults_are_named)
{
    bise_error err;
    bise_samples s = { 0 };
    const bise_status st = encode(wrong[_i].row, &s, &err);
    ck_assert_msg(st == BISE_EFORMAT, "%s: status %d", wrong[_i].row, (int)st);
    ck_assert_msg(strstr(err.text, wrong[_i].words) != NULL,
                  "'%s' is not in '%s'", wrong[_i].words, err.text);
    bise_samples_fini(&s);
}
END_TEST

/* Only v15 has an effort to say; the formats before it refuse the wish. */
START_TEST(effort_is_refused_before_v15)
{
    bise_error err;
    bise_samples s = { 0 };
    ck_assert_int_eq(encode("{\"reasoning_effort\":\"high\",\"messages\":["
                            U "," A "]}", &s, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot be expressed in v13"));
    bise_samples_fini(&s);
}
END_TEST

/* Ids of other engines become Mistral's where they are part of the text, and
 * the id of the trained call is not learnt. */
START_TEST(call_ids_fit_the_version)
{
    static const char row[] =
        "{\"messages\":[" U ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":"
        "\"call_AbCdEfGh123\",\"function\":{\"name\":\"f\"}}]},{\"role\":"
        "\"tool\",\"tool_call_id\":\"call_AbCdEfGh123\",\"content\":\"1\"},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"abcdefghi\","
        "\"function\":{\"name\":\"g\"}}]}]}";
    bise_error err;
    bise_dataset_options o = plain();
    ck_ok(bise_chat_for(&o.chat, fixture_tok, "v3-tekken", &err));
    check_text(row, &o, "<s>[INST]x[/INST]{[TOOL_CALLS][{\"name\": \"f\", "
               "\"arguments\": {}, \"id\": \"call00001\"}]</s>}"
               "[TOOL_RESULTS]{\"content\": 1, \"call_id\": \"call00001\"}"
               "[/TOOL_RESULTS]{[TOOL_CALLS][{\"name\": \"g\", "
               "\"arguments\": {}}]</s>}");
}
END_TEST

/* What a failed row left behind goes; what stood there before stays. */
START_TEST(truncation_forgets_a_failed_row)
{
    bise_error err;
    bise_samples s = { 0 };
    ck_ok(encode("{\"text\":\"one\"}", &s, &err));
    ck_ok(encode("{\"text\":\"two\"}", &s, &err));
    ck_assert_uint_eq(s.n, 2);
    const size_t ids = s.all.ids.n;
    /* the first instance is good, the second is not */
    ck_fails(encode("{\"instruction\":\"x\",\"instances\":[{\"input\":\"\","
                    "\"output\":\"y\"},{\"input\":\"\"}]}", &s, &err),
             BISE_EFORMAT);
    ck_assert_uint_eq(s.n, 3);
    bise_samples_truncate(&s, 2);
    ck_assert_uint_eq(s.n, 2);
    ck_assert_uint_eq(s.all.ids.n, ids);
    char *t = text_of(&s, 1);
    ck_assert_str_eq(t, "<s>{two</s>}");
    bise_free(t);
    bise_samples_truncate(&s, 5);           /* more than there are: no change */
    ck_assert_uint_eq(s.n, 2);
    bise_samples_truncate(&s, 0);
    ck_assert_uint_eq(s.all.ids.n, 0);
    bise_samples_fini(&s);
    bise_samples_fini(&s);                  /* twice is fine */
}
END_TEST

/* The row itself must not be changed: it is hashed, written and shown later. */
START_TEST(rows_are_not_changed)
{
    static const char row[] =
        "{\"only_last\":true,\"interactions\":[{\"role\":\"developer\","
        "\"text\":\"s\"},{\"role\":\"user\",\"text\":\"q\"},"
        "{\"role\":\"assistant\",\"text\":\"a\",\"tool_calls\":[]}]}";
    bise_error err;
    bise_json *v = NULL;
    bise_samples s = { 0 };
    bise_str after = { 0 };
    const bise_dataset_options o = plain();
    ck_ok(bise_json_parse(&v, row, strlen(row), &err));
    ck_ok(bise_schema_encode(bise_schema_of(v), v, &o, &s, &err));
    bise_json_dump(&after, v, 0, false);
    ck_assert_str_eq(after.data, row);
    bise_str_fini(&after);
    bise_samples_fini(&s);
    bise_json_free(v);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("schema");
    TCase *c = tcase_create("schema");
    tcase_set_timeout(c, 30);
    tcase_add_unchecked_fixture(c, fixture_tokenizer, fixture_no_tokenizer);
    tcase_add_loop_test(c, keys_decide_the_format, 0,
                        sizeof kinds / sizeof *kinds);
    tcase_add_loop_test(c, rows_become_conversations, 0,
                        sizeof becomes / sizeof *becomes);
    tcase_add_test(c, train_on_selects_the_tokens);
    tcase_add_test(c, tools_follow_the_version);
    tcase_add_test(c, effort_is_refused_before_v15);
    tcase_add_test(c, call_ids_fit_the_version);
    tcase_add_loop_test(c, faults_are_named, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(c, truncation_forgets_a_failed_row);
    tcase_add_test(c, rows_are_not_changed);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
