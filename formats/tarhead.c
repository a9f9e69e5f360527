/* tarhead.c - ustar and pax headers (POSIX.1-2008, pax interchange format) in
 * memory: owner 0, no user names, fixed times. libarchive's writer would do
 * it too, but adds what it knows of the host's locale.
 * The format of numbers, the magic and the checksum are those that GNU tar,
 * bsdtar, Go and Python read without a warning.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/tarhead.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 512

/* A number in octal, width - 1 digits and a NUL. */
static void put_octal(char *field, int width, uint64_t v)
{
    for (int i = width - 2; i >= 0; i--, v >>= 3)
        field[i] = (char)('0' + (v & 7));
    field[width - 1] = 0;
}

/* Name into name[100] and prefix[155]; false when it does not fit. */
static bool put_name(char *block, const char *name)
{
    const size_t n = strlen(name);
    if (n <= 100) {
        memcpy(block, name, n);
        return true;
    }
    for (size_t i = n - 101; i < n - 1 && i <= 155; i++)
        if (name[i] == '/' && i) {
            memcpy(block + 345, name, i);
            memcpy(block, name + i + 1, n - i - 1);
            return true;
        }
    memcpy(block, name, 100);                   /* pax has the whole */
    return false;
}

/* Other names go into a pax header, which is defined to be UTF-8. */
static bool is_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

/* One ustar block with its checksum. */
static void put_block(bise_str *out, const bise_tarhead *h, char type,
                      bool *complete)
{
    const uint64_t limit = UINT64_C(1) << 33;   /* 11 octal digits */
    char b[BLOCK] = { 0 };
    *complete = put_name(b, h->name) && h->bytes < limit;
    put_octal(b + 100, 8, h->mode);
    put_octal(b + 108, 8, 0);
    put_octal(b + 116, 8, 0);
    put_octal(b + 124, 12, h->bytes < limit ? h->bytes : 0);
    put_octal(b + 136, 12, (uint64_t)h->mtime);
    b[156] = type;
    memcpy(b + 257, "ustar\0" "00", 8);
    put_octal(b + 329, 8, 0);
    put_octal(b + 337, 8, 0);
    memset(b + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += (unsigned char)b[i];
    put_octal(b + 148, 7, sum);
    bise_str_add(out, b, BLOCK);
}

/* "LEN key=value\n" where LEN counts itself. */
static void put_record(bise_str *out, const char *key, const char *value)
{
    const size_t rest = strlen(key) + strlen(value) + 3;
    size_t len = rest + 1;
    for (;;) {
        char digits[24];
        const size_t n = (size_t)snprintf(digits, sizeof digits, "%zu", len);
        if (n + rest == len)
            break;
        len = n + rest;
    }
    bise_str_printf(out, "%zu %s=%s\n", len, key, value);
}

/* The pax header is a small file of its own kind 'x' before the real header.
 * It repeats the whole name, and the size when 11 octal digits do not hold
 * it; the real header carries what fits. */
void bise_tarhead_put(bise_str *out, const bise_tarhead *h)
{
    const size_t n = strlen(h->name);
    const char type = n && h->name[n - 1] == '/' ? '5' : '0';
    bise_str block = { 0 }, pax = { 0 };
    bool complete;
    put_block(&block, h, type, &complete);
    if (!complete || !is_ascii(h->name)) {
        char size[24];
        snprintf(size, sizeof size, "%" PRIu64, h->bytes);
        put_record(&pax, "path", h->name);
        if (h->bytes >= UINT64_C(1) << 33)
            put_record(&pax, "size", size);
        const bise_tarhead x = { .name = "././@PaxHeader", .bytes = pax.len,
                                 .mode = 0644, .mtime = h->mtime };
        put_block(out, &x, 'x', &complete);
        while (pax.len % BLOCK && bise_str_ok(&pax))
            bise_str_putc(&pax, 0);
        bise_str_add(out, bise_str_get(&pax), pax.len);
    }
    bise_str_add(out, bise_str_get(&block), block.len);
    if (!bise_str_ok(&block) || !bise_str_ok(&pax))
        out->failed = true;
    bise_str_fini(&block);
    bise_str_fini(&pax);
}
