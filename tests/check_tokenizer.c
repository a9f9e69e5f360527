/* check_tokenizer.c - the embedded tekken.json and tokenizer.json, real
 * SentencePiece and Tekken files with their published vectors, round trips,
 * special tokens, GGUF export, and what broken files are told.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/rng.h"
#include "core/str.h"
#include "text/merge.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

static bise_error err;

#define TINY BISE_SRCDIR "/examples/tiny-mistral3/"

/* Path of a file in the shared data folder; NULL (and a remark) without. */
static const char *shared(const char *name)
{
    static char path[4096];
    const char *root = getenv("BISE_SHARED");
    snprintf(path, sizeof path, "%s/%s",
             root ? root : BISE_SRCDIR "/../shared", name);
    if (bise_file_exists(path))
        return path;
    printf("skipped: no %s\n", name);
    return NULL;
}

static bise_tokenizer *load(const char *path)
{
    bise_tokenizer *t = NULL;
    if (path)
        ck_ok(bise_tokenizer_load(&t, path, &err));
    return t;
}

/* A tokenizer from the output of a shell command; NULL when it fails. */
static bise_tokenizer *load_output(const char *command)
{
    bise_str text = { 0 };
    bise_tokenizer *t = NULL;
    char buf[65536];
    size_t n;
    FILE *f = popen(command, "r");
    while (f && (n = fread(buf, 1, sizeof buf, f)) > 0)
        bise_str_add(&text, buf, n);
    if (f && pclose(f) == 0 && text.len)
        ck_ok(bise_tokenizer_parse(&t, "output", text.data, text.len, &err));
    else
        printf("skipped: '%s' fails\n", command);
    bise_str_fini(&text);
    return t;
}

static void encode(const bise_tokenizer *t, const char *text, size_t n,
                   unsigned flags, bise_ids *ids)
{
    ids->n = 0;
    ck_ok(bise_tokenizer_encode(t, text, n, flags, ids, &err));
}

/* Encode text and compare with a list of ids that ends with -1. */
static void is_ids(const bise_tokenizer *t, const char *text, unsigned flags,
                   const int32_t *want)
{
    bise_ids ids = { 0 };
    size_t n = 0;
    encode(t, text, strlen(text), flags, &ids);
    while (want[n] >= 0)
        n++;
    ck_assert_uint_eq(ids.n, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(ids.v[i], want[i]);
    bise_ids_fini(&ids);
}

#define IS_IDS(t, text, flags, ...) \
    is_ids(t, text, flags, (const int32_t[]){ __VA_ARGS__, -1 })

static void round_trip(const bise_tokenizer *t, const char *s, size_t n)
{
    bise_ids ids = { 0 };
    bise_str back = { 0 };
    encode(t, s, n, 0, &ids);
    ck_ok(bise_tokenizer_decode(t, ids.v, ids.n, false, &back, &err));
    ck_assert_uint_eq(back.len, n);
    ck_assert(n == 0 || memcmp(back.data, s, n) == 0);
    bise_str_fini(&back);
    bise_ids_fini(&ids);
}

START_TEST(tekken_and_tokenizer_json_agree)
{
    bise_tokenizer *a = load(TINY "tekken.json");
    bise_tokenizer *b = load(TINY "tokenizer.json");
    bise_str text = { 0 };
    bise_ids x = { 0 }, y = { 0 };
    ck_assert_int_eq(bise_tokenizer_vocab(a), 4096);
    ck_assert_int_eq(bise_tokenizer_vocab(b), 4096);
    ck_assert_int_eq(bise_tokenizer_version(a), 13);
    ck_assert_int_eq(bise_tokenizer_bos(a), 1);
    ck_assert_int_eq(bise_tokenizer_eos(b), 2);
    ck_assert_int_eq(bise_tokenizer_pad(a), 11);
    ck_assert_int_eq(bise_tokenizer_special(b, "[THINK]"), 22);
    ck_assert_str_eq(bise_tokenizer_special_name(a, 3), "[INST]");
    ck_ok(bise_file_read(&text, TINY "valid.txt", &err));
    encode(a, text.data, text.len, BISE_TOK_BOS, &x);
    encode(b, text.data, text.len, BISE_TOK_BOS, &y);
    ck_assert_uint_eq(x.n, y.n);
    ck_assert(memcmp(x.v, y.v, x.n * sizeof *x.v) == 0);
    round_trip(a, text.data, text.len);
    bise_ids_fini(&x);
    bise_ids_fini(&y);
    bise_str_fini(&text);
    bise_tokenizer_free(a);
    bise_tokenizer_free(b);
}
END_TEST

/* One line of input and its ids, comma-separated. In the input \n stands for a
 * new line and \s for a blank. */
static void check_vector(const bise_tokenizer *t, const char *line,
                         const char *want, const char *file)
{
    bise_str text = { 0 };
    bise_ids ids = { 0 };
    char *end;
    size_t i = 0;
    for (const char *p = line; *p && *p != '\n'; p++) {
        const bool escape = *p == '\\' && (p[1] == 'n' || p[1] == 's');
        bise_str_putc(&text, escape ? (p[1] == 'n' ? '\n' : ' ') : *p);
        p += escape;
    }
    encode(t, bise_str_get(&text), text.len, 0, &ids);
    for (; *want && *want != '\n'; want = *end == ',' ? end + 1 : end, i++) {
        const long id = strtol(want, &end, 10);
        ck_assert_msg(i < ids.n && ids.v[i] == id, "%s: id %zu of '%s'", file,
                      i, bise_str_get(&text));
    }
    ck_assert_uint_eq(i, ids.n);
    bise_ids_fini(&ids);
    bise_str_fini(&text);
}

static void check_vectors(const bise_tokenizer *t, const char *set,
                          const char *name)
{
    char file[256];
    bise_str in = { 0 }, want = { 0 };
    const char *path;
    snprintf(file, sizeof file, "data/tokenizers/vectors/%s_input.txt", set);
    if (!t || !(path = shared(file)))
        return;
    ck_ok(bise_file_read(&in, path, &err));
    snprintf(file, sizeof file, "data/tokenizers/vectors/%s_%s.txt", set,
             name);
    if (!(path = shared(file)))
        return;
    ck_ok(bise_file_read(&want, path, &err));
    const char *a = in.data, *b = want.data;
    while (a && b && *a && *b) {
        check_vector(t, a, b, file);
        a = strchr(a, '\n');
        b = strchr(b, '\n');
        a += a != NULL;
        b += b != NULL;
    }
    ck_assert(a && b && !*a && !*b);
    bise_str_fini(&in);
    bise_str_fini(&want);
}

START_TEST(published_vectors_of_sentencepiece)
{
    static const struct { const char *file, *name; int version; } rows[] = {
        { "tokenizer.model.v1", "spm_mistral01", 1 },
        { "mistral_instruct_tokenizer_240323.model.v3", "spm_mistral03", 3 },
    };
    char path[256];
    snprintf(path, sizeof path, "data/tokenizers/sentencepiece/%s",
             rows[_i].file);
    bise_tokenizer *t = load(shared(path));
    if (t)
        ck_assert_int_eq(bise_tokenizer_version(t), rows[_i].version);
    check_vectors(t, "small", rows[_i].name);
    check_vectors(t, "mixed", rows[_i].name);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(published_vectors_of_tekken)
{
    const char *path = shared("data/tokenizers/tekken/"
                              "nemo-2407.tokenizer.json.gz");
    char command[5000];
    if (!path)
        return;
    snprintf(command, sizeof command, "gzip -dc '%s'", path);
    bise_tokenizer *t = load_output(command);
    check_vectors(t, "small", "tekken");
    check_vectors(t, "mixed", "tekken");
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(special_tokens_only_on_request)
{
    bise_tokenizer *t = load(TINY "tekken.json");
    bise_ids ids = { 0 };
    bise_str out = { 0 };
    encode(t, "[INST]a</s>", 11, 0, &ids);
    for (size_t i = 0; i < ids.n; i++)
        ck_assert(!bise_tokenizer_special_name(t, ids.v[i]));
    IS_IDS(t, "[INST]a</s>", BISE_TOK_PARSE_SPECIAL | BISE_TOK_BOS, 1, 3,
           32 + 'a', 2);
    IS_IDS(t, "a", BISE_TOK_EOS, 32 + 'a', 2);
    ids.n = 0;
    encode(t, "[INST]a</s>", 11, BISE_TOK_PARSE_SPECIAL, &ids);
    ck_ok(bise_tokenizer_decode(t, ids.v, ids.n, true, &out, &err));
    ck_assert_str_eq(bise_str_get(&out), "[INST]a</s>");
    bise_str_clear(&out);
    ck_ok(bise_tokenizer_decode(t, ids.v, ids.n, false, &out, &err));
    ck_assert_str_eq(bise_str_get(&out), "a");
    const int32_t wrong = 4096;
    ck_fails(bise_tokenizer_decode(t, &wrong, 1, false, &out, &err),
             BISE_EINVAL);
    size_t n = 9;
    ck_assert_str_eq(bise_tokenizer_piece(t, 3, &n), "");
    ck_assert_uint_eq(n, 0);
    bise_str_fini(&out);
    bise_ids_fini(&ids);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(invalid_utf8_is_replaced_as_python_does)
{
    static const struct { const char *in, *out; } rows[] = {
        { "a\xff" "b", "a\xef\xbf\xbd" "b" },
        { "\xe2\x82", "\xef\xbf\xbd" },
        { "\xe2\x28\xa1", "\xef\xbf\xbd(\xef\xbf\xbd" },
        { "\xf0\x9f\x98", "\xef\xbf\xbd" },
        { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xf4\x90\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xf0\x90\x80\xf0\x90\x80\x80", "\xef\xbf\xbd\xf0\x90\x80\x80" },
        { "ok \xc3\xa9", "ok \xc3\xa9" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bise_str s = { 0 };
        bise_utf8_repair(&s, rows[i].in, strlen(rows[i].in));
        ck_assert_msg(strcmp(bise_str_get(&s), rows[i].out) == 0, "row %zu", i);
        ck_assert_uint_eq(bise_utf8_valid(s.data, s.len), s.len);
        bise_str_fini(&s);
    }
}
END_TEST

/* A random string of valid UTF-8; few kinds of characters at a time. */
static size_t random_text(char *out, uint64_t seed)
{
    static const unsigned from[] = { 0x20, 0x61, 0x30, 0, 0xc0, 0x3b1, 0x621,
                                     0x4e00, 0x1f600, 0x10000, 0xe000 };
    const uint64_t len = bise_rng_below(seed, 1, 0, 40);
    size_t n = 0;
    for (uint64_t k = 0; k < len; k++) {
        const uint64_t kind = bise_rng_below(seed, 2, k / 4, 12);
        unsigned cp = kind == 11
            ? (unsigned)bise_rng_below(seed, 3, k, 0x110000)
            : from[kind] + (unsigned)bise_rng_below(seed, 3, k, 40);
        if (cp >= 0xd800 && cp <= 0xdfff)
            cp = ' ';
        n += (size_t)bise_utf8_put(out + n, cp);
    }
    return n;
}

/* Text in which every U+2581 is the space that SentencePiece decodes it to. */
static size_t spaces_for_marks(char *s, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        const bool mark = n - i >= 3 && !memcmp(s + i, "\xe2\x96\x81", 3);
        s[out++] = mark ? ' ' : s[i];
        i += mark ? 2 : 0;
    }
    return out;
}

/* BISE_ROUND_TRIP_FILE may be a SentencePiece model, too. */
START_TEST(tekken_round_trips_random_text)
{
    const char *other = getenv("BISE_ROUND_TRIP_FILE");
    bise_tokenizer *t = load(other ? other : TINY "tekken.json");
    char text[256];
    const char *many = getenv("BISE_ROUND_TRIPS");
    const uint64_t n = many ? strtoull(many, NULL, 10) : 20000;
    const bool spm = bise_tokenizer_kind_of(t) == BISE_TOKENIZER_SPM;
    for (uint64_t i = 0; i < n; i++) {
        const size_t len = random_text(text, i);
        round_trip(t, text, spm ? spaces_for_marks(text, len) : len);
    }
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(heap_and_scan_merge_alike)
{
    bise_tokenizer *t = load(TINY "tekken.json");
    int32_t a[40], b[40];
    for (uint64_t i = 0; i < 20000; i++) {
        size_t n = (size_t)bise_rng_below(i, 0, 0, 41), m = n;
        for (size_t k = 0; k < n; k++)
            a[k] = b[k] = 32 + 'a' + (int32_t)bise_rng_below(i, 1, k, 6);
        ck_ok(bise_merge(&t->merges, a, &n, &err));
        ck_ok(bise_merge_heap(&t->merges, b, &m, &err));
        ck_assert_uint_eq(n, m);
        ck_assert(n == 0 || memcmp(a, b, n * sizeof *a) == 0);
    }
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(long_lines_take_time_in_proportion)
{
    bise_tokenizer *t = load(TINY "tekken.json");
    const size_t n = 1 << 20;
    char *s = malloc(n);
    for (size_t i = 0; i < n; i++)
        s[i] = (char)('a' + bise_rng_below(3, 0, i, 26));
    round_trip(t, s, n);        /* quadratic time would not end here */
    free(s);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(gguf_export_reads_back)
{
    bise_tokenizer *t = load(TINY "tekken.json"), *back = NULL;
    bise_tokenizer *json = load(TINY "tokenizer.json");
    bise_gguf_meta m = { 0 };
    bise_ids x = { 0 }, y = { 0 };
    const char *text = "Naïve café: 12 + 30 = 42; 日本語 😀 don't\n\n  x";
    ck_fails(bise_tokenizer_to_gguf(t, 4095, &m, &err), BISE_EFORMAT);
    ck_ok(bise_tokenizer_to_gguf(t, 4100, &m, &err));
    const bise_gguf_kv *merges = bise_gguf_get(&m, "tokenizer.ggml.merges");
    /* Every split of every token; the file lists only those it needs. */
    ck_assert_uint_ge(merges->count, json->n_merges);
    ck_assert_int_eq(bise_gguf_int(&m, "tokenizer.ggml.padding_token_id", -1),
                     11);
    ck_ok(bise_gguf_vocab(&back, "memory", &m, &err));
    ck_assert_int_eq(bise_tokenizer_vocab(back), 4100);
    ck_assert_uint_eq(back->n_merges, merges->count);
    encode(t, text, strlen(text), 0, &x);
    encode(back, text, strlen(text), 0, &y);
    ck_assert_uint_eq(x.n, y.n);
    ck_assert(memcmp(x.v, y.v, x.n * sizeof *x.v) == 0);
    bise_ids_fini(&x);
    bise_ids_fini(&y);
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
    bise_tokenizer_free(json);
    bise_tokenizer_free(back);
}
END_TEST

/* What the tasks of the thread test share: texts, and ids for each. */
typedef struct shared_work {
    const bise_tokenizer *t;
    char text[64][256];
    size_t len[64];
    bise_ids ids[64];
    bool failed;
} shared_work;

static void encode_task(void *ctx, size_t i, int worker)
{
    shared_work *w = ctx;
    bise_error e;
    bise_error_init(&e);
    (void)worker;
    if (bise_tokenizer_encode(w->t, w->text[i], w->len[i], 0, &w->ids[i],
                              &e) != BISE_OK)
        w->failed = true;
}

/* A fresh tokenizer, so that the threads also race for the classes of
 * characters nobody has asked for yet. */
START_TEST(threads_share_a_tokenizer)
{
    static shared_work w;
    bise_tokenizer *t = load(TINY "tekken.json");
    bise_tokenizer *alone = load(TINY "tekken.json");
    bise_pool *pool = NULL;
    w.t = t;
    for (uint64_t i = 0; i < 64; i++)
        w.len[i] = random_text(w.text[i], 5000 + i);
    ck_ok(bise_pool_new(&pool, 4, &err));
    bise_pool_run(pool, 64, encode_task, &w);
    ck_assert(!w.failed);
    for (size_t i = 0; i < 64; i++) {
        bise_ids ids = { 0 };
        encode(alone, w.text[i], w.len[i], 0, &ids);
        ck_assert_uint_eq(ids.n, w.ids[i].n);
        ck_assert(!ids.n ||
                  memcmp(ids.v, w.ids[i].v, ids.n * sizeof *ids.v) == 0);
        bise_ids_fini(&ids);
        bise_ids_fini(&w.ids[i]);
    }
    bise_pool_free(pool);
    bise_tokenizer_free(t);
    bise_tokenizer_free(alone);
}
END_TEST

START_TEST(one_line_or_many_give_the_same_ids)
{
    /* Long enough for the cache of chunks: its copies must be the same as
     * encoding each line by itself, which has no cache. */
    bise_tokenizer *t = load(TINY "tekken.json");
    bise_str text = { 0 };
    bise_ids all = { 0 }, parts = { 0 };
    ck_ok(bise_file_read(&text, TINY "valid.txt", &err));
    encode(t, text.data, text.len, 0, &all);
    for (const char *p = text.data, *end; *p; p = end) {
        /* Cut where a chunk ends in any case: behind the last line end of a
         * run, when a letter follows. */
        end = p;
        do {
            end = strchr(end, '\n');
            end = end ? end + 1 : text.data + text.len;
        } while (*end && !((*end | 32) >= 'a' && (*end | 32) <= 'z'));
        ck_ok(bise_tokenizer_encode(t, p, (size_t)(end - p), 0, &parts, &err));
    }
    ck_assert_uint_eq(all.n, parts.n);
    ck_assert(memcmp(all.v, parts.v, all.n * sizeof *all.v) == 0);
    bise_ids_fini(&all);
    bise_ids_fini(&parts);
    bise_str_fini(&text);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(memory_failures_of_encoding_leave_the_list_as_it_was)
{
    bise_tokenizer *t = load(TINY "tekken.json");
    bise_str text = { 0 };
    int failures = 0;
    for (int i = 0; i < 300; i++)
        bise_str_puts(&text, "abcdefghij\xff");
    for (uint64_t n = 1;; n++) {
        bise_ids ids = { 0 };
        ck_assert_int_eq(bise_ids_push(&ids, 7), 0);
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_tokenizer_encode(t, text.data, text.len, 0,
                                                    &ids, &err);
        bise_alloc_fail_after(0);
        if (s != BISE_OK) {
            ck_assert_int_eq(s, BISE_ENOMEM);
            ck_assert_uint_eq(ids.n, 1);
            failures++;
        }
        bise_ids_fini(&ids);
        if (s == BISE_OK && n > 20)
            break;
    }
    ck_assert_int_gt(failures, 2);
    bise_str_fini(&text);
    bise_tokenizer_free(t);
}
END_TEST

/* Replace the first occurrence of a in the embedded tekken.json by b; the
 * message must hold want. */
static const struct { const char *a, *b, *want; } broken[] = {
    { "\"pattern\"", "\"pat\"", "'config.pattern'" },
    { "\"pattern\": \"", "\"pattern\": \"(", "'config.pattern': invalid" },
    { "\"default_vocab_size\"", "\"x\"", "'config.default_vocab_size'" },
    { "\"default_vocab_size\": 4096", "\"default_vocab_size\": 9999",
      "'vocab' has 4064 entries" },
    { "\"default_num_special_tokens\": 32",
      "\"default_num_special_tokens\": -1", "default_num_special_tokens" },
    { "\"version\": \"v13\"", "\"version\": \"v99\"", "'config.version'" },
    { "\"rank\": 300,", "\"rank\": 301,", "'vocab[300].rank' is 301" },
    { "\"rank\": 300,", "\"r\": 300,", "'vocab[300].rank' is missing" },
    { "\"token_bytes\": \"AA==\"", "\"token_bytes\": \"A*==\"",
      "'vocab[0].token_bytes' is 'A*=='" },
    { "\"token_bytes\": \"AQ==\"", "\"token_bytes\": \"AA==\"",
      "must be the byte 1" },
    { "\"token_str\": \"<s>\"", "\"token\": \"<s>\"",
      "'special_tokens[1].token_str'" },
    { "\"special_tokens\"", "\"specials\"", "'special_tokens' is missing" },
};

START_TEST(tekken_errors_name_the_field)
{
    bise_str text = { 0 }, cut = { 0 };
    bise_tokenizer *t = NULL;
    ck_ok(bise_file_read(&text, TINY "tekken.json", &err));
    const char *at = strstr(text.data, broken[_i].a);
    ck_assert_ptr_nonnull(at);
    bise_str_add(&cut, text.data, (size_t)(at - text.data));
    bise_str_puts(&cut, broken[_i].b);
    bise_str_puts(&cut, at + strlen(broken[_i].a));
    ck_fails(bise_tokenizer_parse(&t, "tekken.json", cut.data, cut.len, &err),
             BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, broken[_i].want), "%s", err.text);
    ck_assert_str_eq(err.path, "tekken.json");
    bise_str_fini(&text);
    bise_str_fini(&cut);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer");
    TCase *t = tcase_create("tokenizer");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, tekken_and_tokenizer_json_agree);
    tcase_add_loop_test(t, published_vectors_of_sentencepiece, 0, 2);
    tcase_add_test(t, published_vectors_of_tekken);
    tcase_add_test(t, special_tokens_only_on_request);
    tcase_add_test(t, invalid_utf8_is_replaced_as_python_does);
    tcase_add_test(t, tekken_round_trips_random_text);
    tcase_add_test(t, threads_share_a_tokenizer);
    tcase_add_test(t, one_line_or_many_give_the_same_ids);
    tcase_add_test(t, memory_failures_of_encoding_leave_the_list_as_it_was);
    tcase_add_test(t, heap_and_scan_merge_alike);
    tcase_add_test(t, long_lines_take_time_in_proportion);
    tcase_add_test(t, gguf_export_reads_back);
    tcase_add_loop_test(t, tekken_errors_name_the_field, 0,
                        (int)(sizeof broken / sizeof *broken));
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
