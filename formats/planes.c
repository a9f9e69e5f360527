/* planes.c - see planes.h for the form. The loops over weights are plain and
 * without branches, so that the compiler vectorizes them.
 * On trained weights the high plane of a bfloat16 packs to a third, the low
 * one not at all: 16 bits become about 10.6. Random numbers drawn from a
 * normal distribution behave the same, as only the exponents matter.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/planes.h"

#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

#define HEAD 24
#define MAX_RANGES 2000 /* so that the header stays below 64 KiB */
#define WORTH 4096 /* bytes of 16-bit weights below which it does not pay */

static const char magic[8] = "BISEPLN1";

/* Add one tensor's bytes, joined with the range before when they touch. */
static void add_tensor(bise_planes *p, const bise_tensor *t)
{
    if (t->dtype != BISE_DTYPE_F16 && t->dtype != BISE_DTYPE_BF16)
        return;
    const bise_planes_kind kind = t->dtype == BISE_DTYPE_F16 ?
        BISE_PLANES_F16 : BISE_PLANES_BF16;
    bise_planes_range *last = p->n ? &p->ranges[p->n - 1] : NULL;
    if (last && last->end == t->offset && last->kind == kind)
        last->end += t->bytes;
    else if (t->bytes)
        p->ranges[p->n++] = (bise_planes_range){ t->offset,
                                                 t->offset + t->bytes, kind };
}

/* Few or scattered weights do not pay: the file is packed as it is. */
bise_status bise_planes_of(bise_planes *p, const bise_tensor *tensors,
                           size_t n, uint64_t size, bise_error *err)
{
    uint64_t bytes = 0;
    memset(p, 0, sizeof *p);
    p->size = size;
    p->ranges = bise_alloc_array(n + 1, sizeof *p->ranges);
    if (!p->ranges)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < n; i++)
        add_tensor(p, &tensors[i]);
    for (size_t i = 0; i < p->n; i++)
        bytes += p->ranges[i].end - p->ranges[i].start;
    if (bytes < WORTH || p->n > MAX_RANGES)
        bise_planes_fini(p);
    return BISE_OK;
}

/* By the file's own header: only it knows which bytes are 16-bit weights. A
 * file that does not parse is no error here but packed as it is. */
bise_status bise_planes_find(bise_planes *p, const void *image, uint64_t size,
                             bise_error *err)
{
    bise_st st = { 0 };
    bise_gguf g = { 0 };
    bise_error ignored;
    memset(p, 0, sizeof *p);
    p->size = size;
    bise_error_init(&ignored);
    const bool gguf = size >= 4 && memcmp(image, "GGUF", 4) == 0;
    if (size < WORTH || (gguf ? bise_gguf_parse(&g, image, size, &ignored) :
                         bise_st_parse(&st, image, size, &ignored)) != BISE_OK)
        return BISE_OK;
    const bise_status s = bise_planes_of(p, gguf ? g.tensors : st.tensors,
                                         st.n_tensors + g.n_tensors, size,
                                         err);
    bise_st_close(&st);
    bise_gguf_close(&g);
    return s;
}

/* Also makes the object read as "no byte planes". */
void bise_planes_fini(bise_planes *p)
{
    bise_free(p->ranges);
    p->ranges = NULL;
    p->n = 0;
}

/* Fixed part and one record for each range. */
uint64_t bise_planes_head_bytes(const bise_planes *p)
{
    return HEAD + 24 * (uint64_t)p->n;
}

/* Little endian throughout. The chunk's size is written so that a later
 * version could change it and still read these files. */
void bise_planes_put_head(bise_str *out, const bise_planes *p)
{
    uint8_t b[24];
    memcpy(b, magic, 8);
    bise_store_le32(b + 8, BISE_PLANES_CHUNK);
    bise_store_le32(b + 12, (uint32_t)p->n);
    bise_store_le64(b + 16, p->size);
    bise_str_add(out, b, HEAD);
    for (size_t i = 0; i < p->n; i++) {
        bise_store_le64(b, p->ranges[i].start);
        bise_store_le64(b + 8, p->ranges[i].end);
        bise_store_le64(b + 16, (uint64_t)p->ranges[i].kind);
        bise_str_add(out, b, 24);
    }
}

/* The ranges must rise, not touch backwards, and lie inside the file: split
 * and join index by them without further checks. */
bise_status bise_planes_get_head(bise_planes *p, const void *data, uint64_t n,
                                 bise_error *err)
{
    const uint8_t *b = data;
    memset(p, 0, sizeof *p);
    if (n < HEAD || memcmp(b, magic, 8) != 0)
        return bise_fail(err, BISE_EFORMAT, "no byte plane header");
    const uint32_t chunk = bise_load_le32(b + 8);
    const uint32_t count = bise_load_le32(b + 12);
    if (chunk != BISE_PLANES_CHUNK)
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "byte planes in chunks of %" PRIu32 " bytes", chunk);
    if (count > MAX_RANGES || 24 * (uint64_t)count > n - HEAD)
        return bise_fail(err, BISE_EFORMAT,
                         "byte plane header of %" PRIu32 " ranges", count);
    p->size = bise_load_le64(b + 16);
    p->ranges = bise_alloc_array(count + 1, sizeof *p->ranges);
    if (!p->ranges)
        return bise_fail_nomem(err);
    uint64_t last = 0;
    for (p->n = 0, b += HEAD; p->n < count; p->n++, b += 24) {
        const uint64_t start = bise_load_le64(b), end = bise_load_le64(b + 8);
        const uint64_t kind = bise_load_le64(b + 16);
        if (start < last || end <= start || end > p->size || kind < 1 ||
            kind > 2) {
            bise_planes_fini(p);
            return bise_fail(err, BISE_EFORMAT, "wrong byte plane range");
        }
        p->ranges[p->n] = (bise_planes_range){ start, end,
                                               (bise_planes_kind)kind };
        last = end;
    }
    return BISE_OK;
}

/* Whole weights of a range inside [at, at + n): positions relative to at. */
static size_t part_of(const bise_planes_range *r, uint64_t at, size_t n,
                      size_t *from)
{
    uint64_t a = r->start > at ? r->start : at;
    uint64_t b = r->end < at + n ? r->end : at + n;
    a += (a - r->start) & 1;                    /* weights start evenly */
    if (b <= a)
        return 0;
    *from = (size_t)(a - at);
    return (size_t)(b - a) / 2;
}

/* Index of the first range that ends after at. */
static size_t first_range(const bise_planes *p, uint64_t at)
{
    size_t lo = 0, hi = p->n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (p->ranges[mid].end <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* How many weights of all ranges lie whole inside the chunk; every other byte
 * of it is copied as it is. */
static size_t count_weights(const bise_planes *p, uint64_t at, size_t n)
{
    size_t weights = 0, from;
    for (size_t i = first_range(p, at);
         i < p->n && p->ranges[i].start < at + n; i++)
        weights += part_of(&p->ranges[i], at, n, &from);
    return weights;
}

/* Weights handled together: loops of a fixed length become vector code. */
#define STEP 64
/* A 16-bit word of the file as a number of this machine, and back. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define HOST16(v) ((uint16_t)((v) << 8 | (v) >> 8))
#else
#define HOST16(v) (v)
#endif

/* Rotating a bfloat16 left by one puts its sign to the other end: the high
 * byte is then the exponent alone, which takes few values. */
static void split_step(uint8_t *restrict high, uint8_t *restrict low,
                       const uint8_t *restrict in, size_t n, unsigned left)
{
    uint16_t w[STEP];
    memcpy(w, in, 2 * n);
    for (size_t i = 0; i < n; i++) {
        const unsigned v = HOST16(w[i]);
        w[i] = (uint16_t)(v << left | (v >> 15 & left));
    }
    for (size_t i = 0; i < n; i++)
        high[i] = (uint8_t)(w[i] >> 8);
    for (size_t i = 0; i < n; i++)
        low[i] = (uint8_t)w[i];
}

/* left: 1 for bfloat16, else 0. The calls have a constant length inside. */
static void split_weights(uint8_t *restrict high, uint8_t *restrict low,
                          const uint8_t *restrict in, size_t n, unsigned left)
{
    size_t i = 0;
    for (; i + STEP <= n; i += STEP)
        split_step(high + i, low + i, in + 2 * i, STEP, left);
    split_step(high + i, low + i, in + 2 * i, n - i, left);
}

/* The exact reverse, bit for bit, of split_step. */
static void join_step(uint8_t *restrict out, const uint8_t *restrict high,
                      const uint8_t *restrict low, size_t n, unsigned right)
{
    uint16_t v[STEP];
    for (size_t i = 0; i < n; i++) {
        const unsigned w = (unsigned)low[i] | (unsigned)high[i] << 8;
        v[i] = (uint16_t)(w >> right | (w & right) << 15);
        v[i] = HOST16(v[i]);
    }
    memcpy(out, v, 2 * n);
}

/* The reverse of split_weights. */
static void join_weights(uint8_t *restrict out, const uint8_t *restrict high,
                         const uint8_t *restrict low, size_t n,
                         unsigned right)
{
    size_t i = 0;
    for (; i + STEP <= n; i += STEP)
        join_step(out + 2 * i, high + i, low + i, STEP, right);
    join_step(out + 2 * i, high + i, low + i, n - i, right);
}

/* Three streams fill out side by side: bytes outside of ranges, high bytes,
 * low bytes. Their lengths are known from the ranges, so that the reverse
 * finds them again without any record. */
size_t bise_planes_split(uint8_t *out, const uint8_t *in, size_t n,
                         uint64_t at, const bise_planes *p)
{
    const size_t weights = count_weights(p, at, n);
    uint8_t *rest = out, *high = out + (n - 2 * weights), *low = high + weights;
    size_t done = 0;
    for (size_t i = first_range(p, at);
         i < p->n && p->ranges[i].start < at + n; i++) {
        size_t from = 0;
        const size_t k = part_of(&p->ranges[i], at, n, &from);
        if (!k)
            continue;
        memcpy(rest, in + done, from - done);
        rest += from - done;
        split_weights(high, low, in + from, k,
                      p->ranges[i].kind == BISE_PLANES_BF16);
        high += k;
        low += k;
        done = from + 2 * k;
    }
    memcpy(rest, in + done, n - done);
    return n - weights;
}

/* As split, with source and destination exchanged. */
void bise_planes_join(uint8_t *out, const uint8_t *in, size_t n, uint64_t at,
                      const bise_planes *p)
{
    const size_t weights = count_weights(p, at, n);
    const uint8_t *rest = in, *high = in + (n - 2 * weights);
    const uint8_t *low = high + weights;
    size_t done = 0;
    for (size_t i = first_range(p, at);
         i < p->n && p->ranges[i].start < at + n; i++) {
        size_t from = 0;
        const size_t k = part_of(&p->ranges[i], at, n, &from);
        if (!k)
            continue;
        memcpy(out + done, rest, from - done);
        rest += from - done;
        join_weights(out + from, high, low, k,
                     p->ranges[i].kind == BISE_PLANES_BF16);
        high += k;
        low += k;
        done = from + 2 * k;
    }
    memcpy(out + done, rest, n - done);
}
