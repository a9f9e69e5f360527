/* check_sign.c - base64, keys and signatures: values of the RFC, a fixed key's
 * hint, every changed byte of data and signature, and folders whose files are
 * not as signed. The keys are made for this test and guard nothing.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "deploy/sign.h"
#include "formats/crypto.h"
#include "tests/check_main.h"

static const char secret_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrSRoEkJ1AqV+Sgpe\n"
    "CICXy4AEFVZ5obQ7ptmo34REPNWhRANCAAQt1EX2i5Tn86Gg7LQ+81UdkqHQ0EG4\n"
    "kWUJKik2zhW8hSOaZ18XvcT5wT4PffHsZwiBMtNxkJwmtA09AIvb+6j7\n"
    "-----END PRIVATE KEY-----\n";
static const char public_pem[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELdRF9ouU5/OhoOy0PvNVHZKh0NBB\n"
    "uJFlCSopNs4VvIUjmmdfF73E+cE+D33x7GcIgTLTcZCcJrQNPQCL2/uo+w==\n"
    "-----END PUBLIC KEY-----\n";
static const char ed25519_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIMgvc7YQ8k9rwEPF46G0jTQDlI/bnmWYSTf7iydYWfiH\n"
    "-----END PRIVATE KEY-----\n";

static char dir[64];

static const char *at(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void put(const char *name, const char *text)
{
    bise_error err;
    ck_ok(bise_file_write(at(name), text, strlen(text), &err));
}

static void setup(void)
{
    bise_error err;
    strcpy(dir, "/tmp/bise-sign-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    put("secret.pem", secret_pem);
    put("public.pem", public_pem);
    put("ed25519.pem", ed25519_pem);
    ck_ok(bise_mkdir(at("m/sub"), &err));
    put("m/a.txt", "first");
    put("m/sub/b.txt", "second");
    put("m/.gitignore", "not signed");
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

/* RFC 4648 section 10, and what else must come back. */
static const struct { const char *plain, *coded; } base64[] = {
    { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
    { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
    { "\xfb\xff\xbf", "+/+/" },
};

START_TEST(base64_as_in_the_rfc)
{
    bise_str out = { 0 };
    const char *coded = base64[_i].coded;
    bise_base64_put(&out, base64[_i].plain, strlen(base64[_i].plain));
    ck_assert_str_eq(bise_str_get(&out), coded);
    bise_str_clear(&out);
    ck_assert(bise_base64_get(&out, coded, strlen(coded)));
    ck_assert_str_eq(bise_str_get(&out), base64[_i].plain);
    bise_str_fini(&out);
}
END_TEST

START_TEST(base64_refuses_what_is_not)
{
    static const char *const bad[] = { "Z", "Zg", "Zg=", "Zg=a", "=Zg=", "Z===",
        "Zm9v\n", "Zm 9", "Zg==Zg==", "Zm9_", "----" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bise_str out = { 0 };
        ck_assert_msg(!bise_base64_get(&out, bad[i], strlen(bad[i])), "%s",
                      bad[i]);
        bise_str_fini(&out);
    }
}
END_TEST

START_TEST(signatures_hold_for_their_bytes_only)
{
    bise_error err;
    bise_key *secret = NULL, *public = NULL;
    bise_str sig = { 0 };
    char a[65], b[65], data[] = "the signed bytes";
    ck_ok(bise_key_load(&secret, at("secret.pem"), true, &err));
    ck_ok(bise_key_load(&public, at("public.pem"), false, &err));
    ck_ok(bise_key_hint(a, secret, &err));
    ck_ok(bise_key_hint(b, public, &err));
    ck_assert_str_eq(a, b);
    ck_assert_str_eq(a, "84ad15118d5b09c1a9e8d1e127ff276bff7ab11d82941777d1053"
                     "158495dfac2");           /* openssl pkey | sha256sum */
    ck_ok(bise_key_sign(&sig, secret, data, sizeof data, &err));
    ck_assert(bise_key_check(public, data, sizeof data, sig.data, sig.len));
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] ^= 1;
        ck_assert(!bise_key_check(public, data, sizeof data, sig.data,
                                  sig.len));
        data[i] ^= 1;
    }
    for (size_t i = 0; i < sig.len; i++) {
        sig.data[i] ^= 4;
        ck_assert(!bise_key_check(public, data, sizeof data, sig.data,
                                  sig.len));
        sig.data[i] ^= 4;
    }
    ck_assert(!bise_key_check(public, data, sizeof data - 1, sig.data,
                              sig.len));
    ck_assert(!bise_key_check(public, data, sizeof data, sig.data, 0));
    bise_str_fini(&sig);
    bise_key_free(secret);
    bise_key_free(public);
    bise_key_free(NULL);
}
END_TEST

START_TEST(ed25519_signatures_are_deterministic)
{
    bise_error err;
    bise_key *k = NULL;
    bise_str one = { 0 }, two = { 0 };
    ck_ok(bise_key_load(&k, at("ed25519.pem"), true, &err));
    ck_ok(bise_key_sign(&one, k, "x", 1, &err));
    ck_ok(bise_key_sign(&two, k, "x", 1, &err));
    ck_assert_uint_eq(one.len, 64);
    ck_assert_int_eq(memcmp(one.data, two.data, 64), 0);
    ck_assert(bise_key_check(k, "x", 1, one.data, one.len));
    ck_assert(!bise_key_check(k, "y", 1, one.data, one.len));
    bise_str_fini(&one);
    bise_str_fini(&two);
    bise_key_free(k);
}
END_TEST

START_TEST(keys_must_be_what_they_are_used_for)
{
    bise_error err;
    bise_key *k = NULL;
    put("none.pem", "no key at all");
    put("cut.pem", "-----BEGIN PRIVATE KEY-----\nMIGH\n");
    ck_fails(bise_key_load(&k, at("public.pem"), true, &err), BISE_EFORMAT);
    ck_fails(bise_key_load(&k, at("secret.pem"), false, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "no public key"));
    ck_fails(bise_key_load(&k, at("none.pem"), true, &err), BISE_EFORMAT);
    ck_fails(bise_key_load(&k, at("cut.pem"), true, &err), BISE_EFORMAT);
    ck_fails(bise_key_load(&k, at("gone.pem"), true, &err), BISE_EIO);
    ck_assert_str_eq(err.path, at("gone.pem"));
    ck_assert_ptr_null(k);
}
END_TEST

/* Number of problems of dir/m; the first as "path: message". */
static size_t check(char first[400])
{
    bise_error err;
    bise_json *list = bise_json_new_array();
    ck_ok(bise_sign_check(at("m"), at("public.pem"), NULL, list, &err));
    const size_t n = bise_json_size(list);
    const bise_json *p = bise_json_at(list, 0);
    first[0] = 0;
    if (n)
        snprintf(first, 400, "%s: %s",
                 bise_json_string(bise_json_get(p, "path"), NULL),
                 bise_json_string(bise_json_get(p, "message"), NULL));
    bise_json_free(list);
    return n;
}

static void sign(void)
{
    bise_error err;
    size_t n = 0;
    ck_ok(bise_sign(at("m"), at("secret.pem"), NULL, &n, &err));
    ck_assert_uint_eq(n, 2);
}

START_TEST(a_signed_folder_is_as_signed)
{
    char first[400];
    sign();
    ck_assert_uint_eq(check(first), 0);
    put("m/.gitignore", "may change");
    ck_assert_uint_eq(check(first), 0);
    sign();                                     /* again: replaces it */
    ck_assert_uint_eq(check(first), 0);
}
END_TEST

START_TEST(every_change_of_a_folder_is_named)
{
    char first[400];
    sign();
    put("m/a.txt", "First");
    ck_assert_uint_eq(check(first), 1);
    ck_assert_str_eq(first, "a.txt: sha256 differs from the signed one");
    put("m/a.txt", "first");
    put("m/new", "");
    ck_assert_uint_eq(check(first), 1);
    ck_assert_str_eq(first, "new: there, but not signed");
    ck_assert_int_eq(unlink(at("m/new")), 0);
    ck_assert_int_eq(unlink(at("m/sub/b.txt")), 0);
    ck_assert_uint_eq(check(first), 1);
    ck_assert_str_eq(first, "sub/b.txt: signed, but not there");
}
END_TEST

START_TEST(a_changed_bundle_is_refused)
{
    static const char *const bundles[] = { "", "{", "[]", "{}",
        "{\"dsseEnvelope\": {}}",
        "{\"dsseEnvelope\": {\"payload\": \"Zg==\", \"signatures\": [{\"sig\": "
        "\"Zg==\"}]}}",
        "{\"dsseEnvelope\": {\"payload\": \"Zg==\", \"payloadType\": "
        "\"application/vnd.in-toto+json\", \"signatures\": [{\"sig\": \"Zg==\"}"
        "]}}" };
    char first[400];
    ck_assert_uint_eq(check(first), 1);         /* none yet */
    ck_assert_ptr_nonnull(strstr(first, "no readable signature"));
    for (size_t i = 0; i < sizeof bundles / sizeof *bundles; i++) {
        put("m/model.sig", bundles[i]);
        ck_assert_uint_eq(check(first), 1);
        ck_assert_ptr_nonnull(strstr(first, "signature"));
    }
}
END_TEST

START_TEST(nothing_is_left_when_signing_fails)
{
    bise_error err;
    size_t n = 0;
    ck_fails(bise_sign(at("m"), at("public.pem"), NULL, &n, &err),
             BISE_EFORMAT);
    ck_fails(bise_sign(at("gone"), at("secret.pem"), NULL, &n, &err),
             BISE_EIO);
    ck_assert(!bise_file_exists(at("m/model.sig")));
    ck_ok(bise_mkdir(at("void"), &err));
    ck_fails(bise_sign(at("void"), at("secret.pem"), NULL, &n, &err),
             BISE_EINVAL);
    ck_assert(!bise_file_exists(at("void/model.sig")));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sign");
    TCase *t = tcase_create("sign");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, base64_as_in_the_rfc, 0,
                        sizeof base64 / sizeof *base64);
    tcase_add_test(t, base64_refuses_what_is_not);
    tcase_add_test(t, signatures_hold_for_their_bytes_only);
    tcase_add_test(t, ed25519_signatures_are_deterministic);
    tcase_add_test(t, keys_must_be_what_they_are_used_for);
    tcase_add_test(t, a_signed_folder_is_as_signed);
    tcase_add_test(t, every_change_of_a_folder_is_named);
    tcase_add_test(t, a_changed_bundle_is_refused);
    tcase_add_test(t, nothing_is_left_when_signing_fails);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
