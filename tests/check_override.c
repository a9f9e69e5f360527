/* check_override.c - tests of convert/override.c: keys keep type and place,
 * new ones get the type that fits, and everything that would make the file say
 * something else than its tensors is refused.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "convert/convert.h"
#include "tests/check_main.h"

static bise_error err;
static bise_gguf_meta m;

static void setup(void)
{
    bise_error_init(&err);
    bise_gguf_set_str(&m, "general.architecture", "llama");
    bise_gguf_set_str(&m, "general.name", "old");
    bise_gguf_set_u32(&m, "llama.context_length", 4096);
    bise_gguf_set_u16(&m, "a.u16", 7);
    bise_gguf_set_i32(&m, "a.i32", -7);
    bise_gguf_set_u64(&m, "a.u64", 7);
    bise_gguf_set_f32(&m, "llama.rope.freq_base", 10000);
    bise_gguf_set_bool(&m, "tokenizer.ggml.add_bos_token", true);
    bise_gguf_set_array(&m, "a.list", BISE_GGUF_F32, (float[]){ 1, 2 }, 2);
    bise_gguf_set_u32(&m, "split.count", 1);
}

static void teardown(void)
{
    bise_gguf_meta_fini(&m);
}

static bise_gguf_type type_of(const char *key)
{
    const bise_gguf_kv *kv = bise_gguf_get(&m, key);
    ck_assert_msg(kv != NULL, "no key %s", key);
    return kv->type;
}

/* What is set, the key to look at, its type after it, and its value. */
static const struct {
    const char *text, *key;
    bise_gguf_type type;
    double value;
} good[] = {
    { "llama.context_length=int:8192", "llama.context_length", BISE_GGUF_U32,
      8192 },
    { "a.u16=int:65535", "a.u16", BISE_GGUF_U16, 65535 },
    { "a.i32=int:-2147483648", "a.i32", BISE_GGUF_I32, -2147483648.0 },
    { "a.u64=int:1099511627776", "a.u64", BISE_GGUF_U64, 1099511627776.0 },
    { "llama.rope.freq_base=float:1e6", "llama.rope.freq_base", BISE_GGUF_F32,
      1e6 },
    { "tokenizer.ggml.add_bos_token=bool:false",
      "tokenizer.ggml.add_bos_token", BISE_GGUF_BOOL, 0 },
    { "new.small=int:5", "new.small", BISE_GGUF_U32, 5 },
    { "new.negative=int:-5", "new.negative", BISE_GGUF_I32, -5 },
    { "new.large=int:5000000000", "new.large", BISE_GGUF_I64, 5e9 },
    { "new.real=float:-0.25", "new.real", BISE_GGUF_F32, -0.25 },
    { "new.flag=bool:true", "new.flag", BISE_GGUF_BOOL, 1 },
};

START_TEST(a_key_keeps_its_type_and_place)
{
    const size_t n = m.n;
    const bool fresh = strncmp(good[_i].key, "new.", 4) == 0;
    size_t before = n;
    for (size_t i = 0; i < n; i++)
        if (strcmp(m.kv[i].key, good[_i].key) == 0)
            before = i;
    ck_ok(bise_convert_override(&m, good[_i].text, &err));
    ck_assert_int_eq(type_of(good[_i].key), good[_i].type);
    ck_assert_double_eq(bise_gguf_float(&m, good[_i].key, -1), good[_i].value);
    ck_assert_uint_eq(m.n, n + fresh);
    ck_assert_str_eq(m.kv[before].key, good[_i].key);
}
END_TEST

START_TEST(texts_are_taken_as_they_are)
{
    size_t n = 0;
    ck_ok(bise_convert_override(&m, "general.name=str:a: b=c \"d\"", &err));
    const char *s = bise_gguf_str(&m, "general.name", &n);
    ck_assert_uint_eq(n, 10);
    ck_assert_mem_eq(s, "a: b=c \"d\"", n);
    ck_ok(bise_convert_override(&m, "new.text=str:", &err));
    ck_assert_ptr_nonnull(bise_gguf_str(&m, "new.text", &n));
    ck_assert_uint_eq(n, 0);
}
END_TEST

static const struct { const char *text, *says; } bad[] = {
    { "general.name", "is not KEY=TYPE:VALUE" },
    { "=str:x", "is not KEY=TYPE:VALUE" },
    { "general.name=Tuned", "does not start with a type" },
    { "general.name=text:Tuned", "does not start with a type" },
    { "general.name=int:5", "key 'general.name' is not a whole number" },
    { "general.name=bool:true", "key 'general.name' is not true or false" },
    { "llama.context_length=str:x", "is not a text" },
    { "llama.context_length=float:5", "is not a float" },
    { "llama.context_length=int:5x", "'5x' of 'llama.context_length'" },
    { "llama.context_length=int:-1", "does not fit the type" },
    { "llama.context_length=int:4294967296", "does not fit the type" },
    { "llama.context_length=int:99999999999999999999", "is not a whole" },
    { "a.u16=int:65536", "does not fit the type of 'a.u16' (0 to 65535)" },
    { "llama.rope.freq_base=float:inf", "is not a finite number" },
    { "llama.rope.freq_base=float:", "is not a finite number" },
    { "tokenizer.ggml.add_bos_token=bool:1", "is not true or false" },
    { "a.list=float:1", "'a.list' is an array" },
    { "general.architecture=str:gemma", "follows from the tensors" },
    { "general.alignment=int:64", "follows from the tensors" },
    { "split.count=int:2", "follows from the tensors" },
};

START_TEST(what_makes_no_sense_is_refused)
{
    const size_t n = m.n;
    ck_assert_int_eq(bise_convert_override(&m, bad[_i].text, &err),
                     BISE_EINVAL);
    ck_assert_msg(strstr(err.text, bad[_i].says) != NULL, "%s", err.text);
    ck_assert_uint_eq(m.n, n);
}
END_TEST

START_TEST(keys_can_be_left_out)
{
    const size_t n = m.n;
    ck_ok(bise_convert_remove_key(&m, "a.list", &err));
    ck_assert_ptr_null(bise_gguf_get(&m, "a.list"));
    ck_assert_uint_eq(m.n, n - 1);
    ck_assert_int_eq(bise_convert_remove_key(&m, "a.list", &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'a.list'"));
    bise_error_init(&err);
    ck_assert_int_eq(bise_convert_remove_key(&m, "general.architecture", &err),
                     BISE_EINVAL);
    ck_assert_uint_eq(m.n, n - 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("override");
    TCase *t = tcase_create("override");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_key_keeps_its_type_and_place, 0,
                        (int)(sizeof good / sizeof *good));
    tcase_add_test(t, texts_are_taken_as_they_are);
    tcase_add_loop_test(t, what_makes_no_sense_is_refused, 0,
                        (int)(sizeof bad / sizeof *bad));
    tcase_add_test(t, keys_can_be_left_out);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
