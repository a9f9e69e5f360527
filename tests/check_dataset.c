/* check_dataset.c - tests of text/schema, scan, dataset, token_cache, sources:
 * every row format, every refusal with file and line, cutting, the cache.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/data_fixture.h"
#include "text/scan.h"
#include "text/spool.h"
#include "text/token_cache.h"

/* Ids of a sample as "1 3 17*": a star behind each trained one. */
static char *shown(const bise_row *r)
{
    bise_str s = { 0 };
    for (int32_t i = 0; i < r->n; i++)
        bise_str_printf(&s, "%s%d%s", i ? " " : "", (int)r->ids[i],
                        r->mask[i] ? "*" : "");
    return bise_str_take(&s);
}

/* What the chat encoder makes of a message list, in the same spelling. */
static char *chat_shown(const char *messages)
{
    bise_error err;
    bise_json *v = NULL;
    bise_sample s = { 0 };
    ck_ok(bise_json_parse(&v, messages, strlen(messages), &err));
    ck_ok(bise_chat_encode(fixture_chat, fixture_tok, v, NULL,
                           BISE_TRAIN_ASSISTANT, &s, &err));
    const bise_row r = { s.ids.v, s.mask, (int32_t)s.ids.n };
    char *text = shown(&r);
    bise_sample_fini(&s);
    bise_json_free(v);
    return text;
}

/* Rows that say the same in different formats. */
#define HELLO "[{\"role\":\"user\",\"content\":\"Hello\"}," \
              "{\"role\":\"assistant\",\"content\":\"Good day\"}]"
#define SYSTEM "[{\"role\":\"system\",\"content\":\"Be kind\"}," \
               "{\"role\":\"user\",\"content\":\"Hello\"}," \
               "{\"role\":\"assistant\",\"content\":\"Good day\"}]"
#define TWICE "[{\"role\":\"user\",\"content\":\"Q\"}," \
              "{\"role\":\"assistant\",\"content\":\"A\"}," \
              "{\"role\":\"user\",\"content\":\"Hello\"}," \
              "{\"role\":\"assistant\",\"content\":\"Good day\"}]"

static const struct { const char *format, *row, *messages; } formats[] = {
    { "messages", "{\"messages\":" HELLO "}", HELLO },
    { "messages", "{\"messages\":" SYSTEM ",\"tools\":[]}", SYSTEM },
    { "messages", "{\"messages\":[{\"role\":\"developer\",\"content\":"
      "\"Be kind\"},{\"role\":\"user\",\"content\":\"Hello\"},"
      "{\"role\":\"assistant\",\"content\":\"Good day\"}]}", SYSTEM },
    { "interactions", "{\"interactions\":[{\"role\":\"user\",\"text\":"
      "\"Hello\"},{\"role\":\"assistant\",\"text\":\"Good day\"}],"
      "\"system_prompt\":\"Be kind\"}", SYSTEM },
    { "sharegpt", "{\"conversations\":[{\"from\":\"human\",\"value\":"
      "\"Hello\"},{\"from\":\"gpt\",\"value\":\"Good day\"}]}", HELLO },
    { "sharegpt", "{\"system\":\"Be kind\",\"conversations\":[{\"from\":"
      "\"human\",\"value\":\"Hello\"},{\"from\":\"gpt\",\"value\":"
      "\"Good day\"}]}", SYSTEM },
    { "alpaca", "{\"instruction\":\"Hello\",\"input\":\"\","
      "\"output\":\"Good day\"}", HELLO },
    { "alpaca", "{\"instruction\":\"Hello\",\"output\":\"Good day\","
      "\"history\":[[\"Q\",\"A\"]]}", TWICE },
    { "alpaca", "{\"instruction\":\"Say\",\"input\":\"it\","
      "\"output\":\"Good day\"}",
      "[{\"role\":\"user\",\"content\":\"Say\\nit\"},"
      "{\"role\":\"assistant\",\"content\":\"Good day\"}]" },
    { "instances", "{\"instruction\":\"Hello\",\"instances\":[{\"input\":"
      "\"\",\"output\":\"Good day\"}]}", HELLO },
    { "prompt/completion", "{\"prompt\":\"Hello\","
      "\"completion\":\"Good day\"}", HELLO },
    { "prompt/completion", "{\"prompt\":[{\"role\":\"user\",\"content\":"
      "\"Hello\"}],\"completion\":[{\"role\":\"assistant\",\"content\":"
      "\"Good day\"}]}", HELLO },
    { "question/answer", "{\"question\":\"Hello\",\"answer\":\"Good day\","
      "\"id\":7}", HELLO },
    { "input/output", "{\"input\":\"Hello\",\"output\":\"Good day\"}",
      HELLO },
};

START_TEST(formats_become_the_same_conversation)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_row row;
    char *path = fixture_file("rows.jsonl", formats[_i].row);
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    ck_assert_str_eq(bise_dataset_stats_of(d)->format, formats[_i].format);
    ck_assert_uint_eq(bise_dataset_count(d), 1);
    bise_dataset_row(d, 0, &row);
    char *got = shown(&row), *want = chat_shown(formats[_i].messages);
    ck_assert_str_eq(got, want);
    ck_assert_ptr_nonnull(strchr(got, '*'));
    bise_free(got);
    bise_free(want);
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

START_TEST(text_is_trained_from_bos_to_eos)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_row row;
    bise_ids ids = { 0 };
    char *path = fixture_file("t.jsonl", "{\"text\":\"The old man\"}\n");
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    bise_dataset_row(d, 0, &row);
    ck_ok(bise_tokenizer_encode(fixture_tok, "The old man", 11,
                                BISE_TOK_BOS | BISE_TOK_EOS, &ids, &err));
    ck_assert_int_eq(row.n, (int)ids.n);
    ck_assert_int_eq(row.ids[0], bise_tokenizer_bos(fixture_tok));
    ck_assert_int_eq(row.ids[row.n - 1], bise_tokenizer_eos(fixture_tok));
    ck_assert_int_eq(memcmp(row.ids, ids.v, ids.n * sizeof *ids.v), 0);
    ck_assert_int_eq(row.mask[0], 0);
    ck_assert_int_eq(bise_row_supervised(&row), row.n - 1);
    bise_ids_fini(&ids);
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

START_TEST(token_rows_keep_their_labels)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_row row;
    char *path = fixture_file("t.jsonl", "{\"input_ids\":[1,5,6,7],"
                                         "\"labels\":[1,-100,6,7]}");
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    bise_dataset_row(d, 0, &row);
    char *got = shown(&row);
    ck_assert_str_eq(got, "1 5 6* 7*");
    bise_free(got);
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

#define U "{\"role\":\"user\",\"content\":\"x\"}"
#define A "{\"role\":\"assistant\",\"content\":\"y\"}"
#define GOOD "{\"messages\":[" U "," A "]}\n"

/* Bad second (or third) lines, and words of the reason. */
static const struct {
    const char *text;
    int line;
    const char *reason;
} bad[] = {
    { GOOD "{\"messages\":[" U "," A "]\n", 2, "invalid JSON at column" },
    { GOOD "\n{nonsense}\n", 3, "invalid JSON" },
    { GOOD "{\"text\":\"\xff\xfe\"}\n", 2, "UTF-8" },
    { GOOD "{\"messages\":[]}\n", 2, "message list is empty" },
    { GOOD "{\"messages\":7}\n", 2, "not an array" },
    { GOOD "{\"messages\":[1]}\n", 2, "message 1 is not an object" },
    { GOOD "{\"messages\":[{\"content\":\"x\"}]}\n", 2, "no 'role'" },
    { GOOD "{\"messages\":[" U "]}\n", 2, "last message" },
    { GOOD "{\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}\n", 2,
      "'robot'" },
    { GOOD "{\"messages\":[{\"role\":\"user\"}," A "]}\n", 2,
      "message 1 (user) has no 'content'" },
    { GOOD "{\"messages\":[" A "," U "," A "]}\n", 2,
      "message 1 is the assistant's" },
    { GOOD "{\"messages\":[" U ",{\"role\":\"tool\",\"content\":\"x\","
      "\"tool_call_id\":\"abcdefghi\"}," A "]}\n", 2, "tool" },
    { GOOD "{\"name\":\"x\"}\n", 2, "no known format" },
    { GOOD "[1]\n", 2, "not an object" },
    { GOOD "\"x\"\n", 2, "not an object" },
    { GOOD "{\"text\":\"x\"}\n", 2, "'text', but the file began with" },
    { GOOD "{\"messages\":[" U "," A "],\"messages\":[]}\n", 2,
      "invalid JSON" },
    { "{\"text\":5}\n", 1, "'text' is not a string" },
    { "{\"prompt\":\"x\",\"completion\":{}}\n", 1, "" },
    { "{\"input_ids\":[1,99999999]}\n", 1, "not an id" },
    { "{\"input_ids\":[1,2],\"labels\":[1]}\n", 1, "1 labels for 2" },
    { "{\"conversations\":[{\"from\":\"cat\",\"value\":\"x\"}]}\n", 1,
      "'cat'" },
    { "{\"conversations\":[{\"from\":\"human\"}]}\n", 1, "'value'" },
    { "{\"instruction\":\"x\",\"output\":null}\n", 1, "'output'" },
    { "{\"instruction\":\"x\",\"instances\":[]}\n", 1, "'instances'" },
    { "[{\"text\":\"x\"},\n{\"text\":\"y\"}\n", 2, "not closed" },
    { "{\"prompt\":\"x\",\"chosen\":\"a\",\"rejected\":\"b\"}\n", 1,
      "chosen" },
};

START_TEST(bad_rows_are_named_by_line)
{
    bise_error err;
    bise_dataset *d = NULL;
    char *path = fixture_file("bad.jsonl", bad[_i].text), where[160];
    ck_fails(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err), BISE_EFORMAT);
    snprintf(where, sizeof where, "%s:%d: ", path, bad[_i].line);
    ck_assert_msg(bise_starts_with(err.text, where), "%s", err.text);
    ck_assert_msg(strstr(err.text, bad[_i].reason) != NULL, "'%s' not in %s",
                  bad[_i].reason, err.text);
    ck_assert_str_eq(err.path, path);
    ck_assert_ptr_null(d);
    bise_free(path);
    /* nothing half-made stays: only the input itself */
    char **names = NULL;
    size_t n = 0;
    ck_ok(bise_dir_list(&names, &n, fixture_dir, &err));
    ck_assert_uint_eq(n, 1);
    bise_free(names);
}
END_TEST

START_TEST(long_rows_are_cut_dropped_or_refused)
{
    bise_error err;
    bise_dataset *d = NULL;
    char *path = fixture_file("long.jsonl",
        "{\"input_ids\":[1,5,6,7,8,9,10,2]}\n{\"input_ids\":[1,5,2]}\n"
        "{\"input_ids\":[1,5,6,7,8],\"labels\":[1,-100,-100,-100,8]}\n"
        "{\"input_ids\":[1]}\n");
    ck_ok(fixture_open(&d, path, 4, BISE_TOO_LONG_CUT, &err));
    const bise_dataset_stats *st = bise_dataset_stats_of(d);
    ck_assert_uint_eq(st->rows, 4);
    ck_assert_uint_eq(st->truncated, 2);
    ck_assert_uint_eq(st->no_target, 2);    /* the answer was cut off; BOS */
    ck_assert_uint_eq(st->samples, 2);
    ck_assert_uint_eq(st->tokens, 7);
    ck_assert_uint_eq(st->supervised, 5);
    ck_assert_int_eq(st->longest, 8);
    ck_assert_int_eq(bise_dataset_len(d, 0), 4);
    ck_assert_int_eq(bise_dataset_len(d, 1), 3);
    bise_dataset_close(d);
    ck_ok(fixture_open(&d, path, 4, BISE_TOO_LONG_DROP, &err));
    ck_assert_uint_eq(bise_dataset_stats_of(d)->dropped, 2);
    ck_assert_uint_eq(bise_dataset_count(d), 1);
    bise_dataset_close(d);
    d = NULL;
    ck_fails(fixture_open(&d, path, 4, BISE_TOO_LONG_ERROR, &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "long.jsonl:1: the row has 8"));
    ck_assert_ptr_null(d);
    bise_free(path);
}
END_TEST

START_TEST(a_set_without_targets_is_refused)
{
    bise_error err;
    bise_dataset *d = NULL;
    char *path = fixture_file("none.jsonl",
        "{\"input_ids\":[1,5],\"labels\":[-100,-100]}\n");
    ck_fails(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "no sample with a trained token"));
    bise_free(path);
    path = fixture_file("empty.jsonl", "");
    ck_fails(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err), BISE_EFORMAT);
    bise_free(path);
}
END_TEST

START_TEST(weights_mask_assistant_turns)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_row row;
    char *path = fixture_file("w.jsonl", "{\"messages\":[" U ","
        "{\"role\":\"assistant\",\"content\":\"first\",\"weight\":0}," U "," A
        "]}\n");
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    bise_dataset_row(d, 0, &row);
    /* one run of trained tokens, at the end */
    int32_t first = 0;
    while (!row.mask[first])
        first++;
    for (int32_t i = first; i < row.n; i++)
        ck_assert_int_eq(row.mask[i], 1);
    ck_assert_int_gt(first, 5);
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

START_TEST(only_last_makes_a_sample_of_each_turn)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_row a, b;
    char *path = fixture_file("o.jsonl", "{\"only_last\":true,\"messages\":["
        U "," A "," U ",{\"role\":\"assistant\",\"content\":\"zz\"}]}\n");
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    ck_assert_uint_eq(bise_dataset_count(d), 2);
    bise_dataset_row(d, 0, &a);
    bise_dataset_row(d, 1, &b);
    ck_assert_int_lt(a.n, b.n);
    ck_assert_int_eq(memcmp(a.ids, b.ids, (size_t)a.n * 4), 0);
    for (int32_t i = 0; i < a.n; i++)       /* the first turn, not again */
        ck_assert_int_eq(b.mask[i], 0);
    ck_assert_int_gt(bise_row_supervised(&b), 0);
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

START_TEST(preference_rows_are_pairs)
{
    bise_error err;
    bise_dataset *d = NULL;
    static const char *const rows[] = {
        "{\"prompt\":\"Hello\",\"chosen\":\"Good day\",\"rejected\":\"Go\"}",
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"Hello\"}],"
        "\"chosen\":[{\"role\":\"assistant\",\"content\":\"Good day\"}],"
        "\"rejected\":[{\"role\":\"assistant\",\"content\":\"Go\"}]}",
        "{\"chosen\":" HELLO ",\"rejected\":[{\"role\":\"user\",\"content\":"
        "\"Hello\"},{\"role\":\"assistant\",\"content\":\"Go\"}]}",
        "{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]"
        "},\"preferred_output\":[{\"role\":\"assistant\",\"content\":"
        "\"Good day\"}],\"non_preferred_output\":[{\"role\":\"assistant\","
        "\"content\":\"Go\"}]}",
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"Hello\"}],"
        "\"chosen\":{\"from\":\"gpt\",\"value\":\"Good day\"},"
        "\"rejected\":{\"from\":\"gpt\",\"value\":\"Go\"}}",
    };
    char *want = chat_shown(HELLO);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *path = fixture_file("p.jsonl", rows[i]);
        const char *file = path;
        bise_dataset_options o = {
            .files = &file, .n_files = 1, .tokenizer = fixture_tok,
            .chat = fixture_chat, .pairs = true, .cache_dir = fixture_dir,
        };
        bise_row row;
        ck_ok(bise_dataset_open(&d, &o, &err));
        ck_assert_uint_eq(bise_dataset_count(d), 2);
        bise_dataset_row(d, 0, &row);
        char *got = shown(&row);
        ck_assert_str_eq(got, want);
        bise_free(got);
        bise_dataset_close(d);
        bise_free(path);
    }
    bise_free(want);
}
END_TEST

/* Up to v11 the tool list moves with the last user turn, so each answer is a
 * sample of its own; the call id of the one trained is not learnt. From v13 on
 * the whole conversation is one sample. */
START_TEST(tools_make_a_sample_of_each_turn)
{
    static const char row_text[] =
        "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"\","
        "\"tool_calls\":[{\"id\":\"abcdefghi\",\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"abcdefghi\","
        "\"content\":\"2\"}," A "],\"tools\":[{\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"description\":\"d\","
        "\"parameters\":{}}}]}\n";
    bise_error err;
    bise_dataset *d = NULL;
    bise_row row;
    bise_str text = { 0 };
    const bise_chat *own = fixture_chat;
    char *path = fixture_file("tools.jsonl", row_text);
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    ck_assert_uint_eq(bise_dataset_count(d), 1);
    bise_dataset_close(d);
    ck_ok(bise_chat_for(&fixture_chat, fixture_tok, "v3-tekken", &err));
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    ck_assert_uint_eq(bise_dataset_count(d), 2);
    bise_dataset_row(d, 0, &row);
    ck_ok(bise_tokenizer_decode(fixture_tok, row.ids, (size_t)row.n, true,
                                &text, &err));
    ck_assert_ptr_nonnull(strstr(text.data, "[TOOL_CALLS]"));
    ck_assert_ptr_null(strstr(text.data, "abcdefghi"));
    bise_str_fini(&text);
    bise_dataset_close(d);
    fixture_chat = own;
    bise_free(path);
}
END_TEST

/* Let the n-th allocation fail, for every n: an error or the right result,
 * never a crash or a leak (the sanitizer build watches the latter). */
START_TEST(survives_failing_allocations)
{
    bise_error err;
    char *path = fixture_file("f.jsonl", GOOD GOOD
        "{\"messages\":[" U "," A "],\"only_last\":true}\n");
    bool done = false;
    for (uint64_t n = 1; !done && n < 5000; n++) {
        const char *file = path;
        const bise_dataset_options o = {
            .files = &file, .n_files = 1, .tokenizer = fixture_tok,
            .chat = fixture_chat,
        };
        bise_dataset *d = NULL;
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_dataset_open(&d, &o, &err);
        bise_alloc_fail_after(0);
        if (s == BISE_OK) {
            done = bise_dataset_count(d) == 3;
            ck_assert(done);
        } else {
            ck_assert_int_eq(s, BISE_ENOMEM);
        }
        bise_dataset_close(d);
    }
    ck_assert(done);
    bise_free(path);
}
END_TEST

/* 3000 rows of every length, with or without threads. */
static char *many_rows(void)
{
    bise_str s = { 0 };
    for (int i = 0; i < 3000; i++)
        bise_str_printf(&s, "{\"question\":\"What is %d times %d?\","
                        "\"answer\":\"It is %d.%.*s\"}\n", i, i % 13,
                        i * (i % 13), i % 40,
                        " And so on and so forth, as everybody knows");
    char *path = fixture_file("many.jsonl", s.data);
    bise_str_fini(&s);
    return path;
}

START_TEST(threads_do_not_change_the_samples)
{
    bise_error err;
    char *path = many_rows(), digest[2][65];
    const char *file = path;
    bise_dataset *d[2] = { NULL, NULL };
    for (int i = 0; i < 2; i++) {
        bise_pool *pool = NULL;
        ck_ok(bise_pool_new(&pool, i ? 3 : 1, &err));
        const bise_dataset_options o = {
            .files = &file, .n_files = 1, .tokenizer = fixture_tok,
            .chat = fixture_chat, .max_len = 40, .pool = pool,
        };
        ck_ok(bise_dataset_open(&d[i], &o, &err));
        strcpy(digest[i], bise_dataset_digest(d[i]));
        bise_pool_free(pool);
    }
    ck_assert_str_eq(digest[0], digest[1]);
    ck_assert_uint_eq(bise_dataset_count(d[0]), 3000);
    for (uint64_t i = 0; i < 3000; i++) {
        bise_row a, b;
        bise_dataset_row(d[0], i, &a);
        bise_dataset_row(d[1], i, &b);
        ck_assert_int_eq(a.n, b.n);
        ck_assert_int_eq(memcmp(a.ids, b.ids, (size_t)a.n * 5), 0);
    }
    ck_assert_int_eq(memcmp(bise_dataset_stats_of(d[0]),
                            bise_dataset_stats_of(d[1]),
                            sizeof(bise_dataset_stats)), 0);
    bise_dataset_close(d[0]);
    bise_dataset_close(d[1]);
    bise_free(path);
}
END_TEST

/* Name of the cache file in the folder (bise_free). */
static char *find_cache(void)
{
    bise_error err;
    char **names = NULL, *found = NULL;
    size_t n = 0;
    ck_ok(bise_dir_list(&names, &n, fixture_dir, &err));
    for (size_t i = 0; i < n; i++)
        if (bise_starts_with(names[i], "tokens-"))
            found = bise_path_join(fixture_dir, names[i]);
    bise_free(names);
    ck_assert_ptr_nonnull(found);
    return found;
}

static void remember(void *ctx, const char *text)
{
    bise_str_puts(ctx, text);
}

START_TEST(cache_is_reused_and_checked)
{
    bise_error err;
    bise_dataset *d = NULL;
    char *path = many_rows();
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    const uint64_t tokens = bise_dataset_stats_of(d)->tokens;
    bise_dataset_close(d);
    char *cache = find_cache();
    bise_str good = { 0 };
    ck_ok(bise_file_read(&good, cache, &err));
    /* every damage is noticed, reported, and repaired */
    static const size_t damage[] = { 0, 20, 80, 104, 112, 120, 300, 5000 };
    for (size_t i = 0; i <= sizeof damage / sizeof *damage; i++) {
        const bool hit = i > 0;
        bise_str said = { 0 };
        const bise_progress progress = { .message = remember, .ctx = &said };
        const char *file = path;
        const bise_dataset_options o = {
            .files = &file, .n_files = 1, .tokenizer = fixture_tok,
            .chat = fixture_chat, .cache_dir = fixture_dir,
            .progress = &progress,
        };
        if (hit) {
            bise_str b = { 0 };
            bise_str_add(&b, good.data, good.len);
            b.data[damage[i - 1]] ^= 0x40;
            ck_ok(bise_file_write(cache, b.data, b.len, &err));
            bise_str_fini(&b);
        }
        ck_ok(bise_dataset_open(&d, &o, &err));
        ck_assert_uint_eq(bise_dataset_stats_of(d)->tokens, tokens);
        ck_assert_int_eq(said.len > 0, hit);
        bise_dataset_close(d);
        bise_str_fini(&said);
    }
    /* the rebuilt file is the same, byte for byte */
    bise_str again = { 0 };
    ck_ok(bise_file_read(&again, cache, &err));
    ck_assert_uint_eq(again.len, good.len);
    ck_assert_int_eq(memcmp(again.data, good.data, good.len), 0);
    bise_str_fini(&again);
    bise_str_fini(&good);
    bise_free(cache);
    bise_free(path);
}
END_TEST

START_TEST(cache_with_consistent_checksum_is_still_checked)
{
    /* a file that was made wrong, not damaged: ids past the vocabulary */
    bise_error err;
    char key[65] = { 0 };
    memset(key, 'a', 64);
    char *path = bise_path_join(fixture_dir, "c.bin");
    bise_token_writer *w = NULL;
    const int32_t ids[3] = { 1, 70, 2 };
    const uint8_t mask[3] = { 0, 1, 1 };
    const bise_row row = { ids, mask, 3 };
    const bise_dataset_stats st = { .rows = 1, .samples = 1 };
    bise_token_cache c;
    ck_ok(bise_token_writer_new(&w, path, key, 1, &err));
    ck_ok(bise_token_writer_add(w, 0, &row, &err));
    ck_ok(bise_token_writer_finish(w, &st, &err));
    ck_fails(bise_token_cache_open(&c, path, key, 70, &err), BISE_EFORMAT);
    ck_ok(bise_token_cache_open(&c, path, key, 71, &err));
    bise_row got;
    bise_token_cache_row(&c, 0, &got);
    ck_assert_int_eq(got.n, 3);
    ck_assert_int_eq(memcmp(got.ids, ids, sizeof ids), 0);
    ck_assert_int_eq(memcmp(got.mask, mask, sizeof mask), 0);
    bise_token_cache_close(&c);
    bise_free(path);
}
END_TEST

START_TEST(key_follows_content_and_settings)
{
    bise_error err;
    bise_dataset *d = NULL;
    char first[65];
    char *path = fixture_file("k.jsonl", "{\"text\":\"one\"}\n");
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    strcpy(first, bise_dataset_digest(d));
    bise_dataset_close(d);
    ck_ok(fixture_open(&d, path, 9, BISE_TOO_LONG_CUT, &err));
    ck_assert_str_ne(first, bise_dataset_digest(d));
    bise_dataset_close(d);
    char *copy = fixture_file("copy.jsonl", "{\"text\":\"one\"}\n");
    ck_ok(fixture_open(&d, copy, 0, BISE_TOO_LONG_CUT, &err));
    ck_assert_str_eq(first, bise_dataset_digest(d));    /* not the name */
    bise_dataset_close(d);
    bise_free(copy);
    bise_free(path);
    path = fixture_file("k.jsonl", "{\"text\":\"two\"}\n");
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    ck_assert_str_ne(first, bise_dataset_digest(d));
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

/* What a run keeps is what a resumed one finds, under the same key. */
START_TEST(kept_tokens_are_found_again)
{
    bise_error err;
    bise_dataset *d = NULL;
    char *path = fixture_file("keep.jsonl", "{\"text\":\"one two\"}\n");
    char *dir = bise_path_join(fixture_dir, "kept"), name[64];
    bise_dataset_options o = {
        .files = (const char *const[]){ path }, .n_files = 1,
        .tokenizer = fixture_tok, .chat = fixture_chat,
    };
    ck_ok(bise_mkdir(dir, &err));
    ck_ok(bise_dataset_open(&d, &o, &err));
    ck_ok(bise_dataset_keep(d, dir, &err));
    ck_ok(bise_dataset_keep(d, dir, &err));     /* twice is fine */
    snprintf(name, sizeof name, "tokens-%.16s.bin", bise_dataset_digest(d));
    char *kept = bise_path_join(dir, name);
    const uint64_t size = bise_file_size(kept);
    ck_assert_uint_gt(size, 256);
    bise_dataset_close(d);
    o.cache_dir = dir;
    ck_ok(bise_dataset_open(&d, &o, &err));
    ck_assert_uint_eq(bise_dataset_count(d), 1);
    ck_assert_uint_eq(bise_file_size(kept), size);
    bise_dataset_close(d);
    bise_free(kept);
    bise_free(dir);
    bise_free(path);
}
END_TEST

START_TEST(sources_take_weights_and_directories)
{
    bise_error err;
    bise_sources s;
    bise_free(fixture_file("train.jsonl", "{}"));
    bise_free(fixture_file("validation.json", "[]"));
    bise_free(fixture_file("odd:0.5", "{}"));
    bise_str a = { 0 }, b = { 0 };
    bise_str_printf(&a, "%s/train.jsonl:0.7", fixture_dir);
    bise_str_printf(&b, "%s/odd:0.5", fixture_dir);
    const char *names[] = { a.data, fixture_dir, b.data };
    ck_ok(bise_sources_find(&s, names, 3, NULL, &err));
    ck_assert_int_eq(s.n, 3);
    ck_assert(s.v[0].weight == 0.7 && s.v[1].weight == 1);
    ck_assert(s.v[2].weight == 1);          /* part of the name */
    ck_assert_ptr_nonnull(strstr(s.v[1].path, "/train.jsonl"));
    bise_sources_fini(&s);
    ck_ok(bise_sources_find(&s, names + 1, 1, "valid", &err));
    ck_assert_ptr_nonnull(strstr(s.v[0].path, "/validation.json"));
    ck_assert(s.v[0].weight == 0);
    bise_sources_fini(&s);
    bise_str_clear(&a);
    bise_str_printf(&a, "%s/train.jsonl:-1", fixture_dir);
    names[0] = a.data;
    ck_fails(bise_sources_find(&s, names, 1, NULL, &err), BISE_EINVAL);
    ck_fails(bise_sources_find(&s, names, 0, NULL, &err), BISE_EINVAL);
    bise_str_fini(&a);
    bise_str_fini(&b);
}
END_TEST

START_TEST(directory_without_train_gives_all_files)
{
    bise_error err;
    bise_sources s;
    const char *dir = fixture_dir;
    bise_free(fixture_file("b.jsonl", "{}"));
    bise_free(fixture_file("a.jsonl", "{}"));
    bise_free(fixture_file("test.jsonl", "{}"));
    bise_free(fixture_file("notes.txt", "x"));
    ck_ok(bise_sources_find(&s, &dir, 1, NULL, &err));
    ck_assert_int_eq(s.n, 2);
    ck_assert(bise_ends_with(s.v[0].path, "/a.jsonl"));
    ck_assert(bise_ends_with(s.v[1].path, "/b.jsonl"));
    bise_sources_fini(&s);
    ck_fails(bise_sources_find(&s, &dir, 1, "other", &err), BISE_EINVAL);
}
END_TEST

START_TEST(spool_gives_back_what_it_took)
{
    bise_error err;
    bise_spool *s = NULL;
    ck_ok(bise_spool_new(&s, fixture_dir, &err));
    for (uint32_t i = 0; i < 100000; i++)
        ck_ok(bise_spool_add(s, &i, sizeof i, &err));
    ck_assert_uint_eq(bise_spool_size(s), 400000);
    for (int round = 0; round < 2; round++) {
        uint32_t v, want = 0;
        size_t got = 1;
        ck_ok(bise_spool_rewind(s, &err));
        while (got) {
            ck_ok(bise_spool_read(s, &v, sizeof v, &got, &err));
            if (got)
                ck_assert_uint_eq(v, want++);
        }
        ck_assert_uint_eq(want, 100000);
    }
    bise_spool_close(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("dataset");
    TCase *c = tcase_create("dataset");
    tcase_set_timeout(c, 30);
    tcase_add_unchecked_fixture(c, fixture_tokenizer, fixture_no_tokenizer);
    tcase_add_checked_fixture(c, fixture_folder, fixture_no_folder);
    tcase_add_loop_test(c, formats_become_the_same_conversation, 0,
                        sizeof formats / sizeof *formats);
    tcase_add_test(c, text_is_trained_from_bos_to_eos);
    tcase_add_test(c, token_rows_keep_their_labels);
    tcase_add_loop_test(c, bad_rows_are_named_by_line, 0,
                        sizeof bad / sizeof *bad);
    tcase_add_test(c, long_rows_are_cut_dropped_or_refused);
    tcase_add_test(c, a_set_without_targets_is_refused);
    tcase_add_test(c, weights_mask_assistant_turns);
    tcase_add_test(c, only_last_makes_a_sample_of_each_turn);
    tcase_add_test(c, tools_make_a_sample_of_each_turn);
    tcase_add_test(c, survives_failing_allocations);
    tcase_add_test(c, preference_rows_are_pairs);
    tcase_add_test(c, threads_do_not_change_the_samples);
    tcase_add_test(c, cache_is_reused_and_checked);
    tcase_add_test(c, cache_with_consistent_checksum_is_still_checked);
    tcase_add_test(c, key_follows_content_and_settings);
    tcase_add_test(c, kept_tokens_are_found_again);
    tcase_add_test(c, sources_take_weights_and_directories);
    tcase_add_test(c, directory_without_train_gives_all_files);
    tcase_add_test(c, spool_gives_back_what_it_took);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
