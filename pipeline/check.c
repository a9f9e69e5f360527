/* check.c - see check.h. A float is not finite when its exponent bits are all
 * ones; values are scanned in groups, and only a group that fails is searched
 * for the place.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pipeline/check.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"

#define STEP 64 /* a known trip count, so that -O2 makes vectors of it */

/* Adding one to an exponent of all ones carries into the top bit, and nothing
 * else does: the bits of STEP values can be collected with a plain or. */
static inline uint32_t overflow32(uint32_t bits)
{
    return (bits & 0x7f800000u) + 0x00800000u;
}

/* Groups of STEP values share one test; the group that fails is walked
 * again from its start by the second loop, which also takes the tail. */
uint64_t bise_find_nonfinite(const float *x, uint64_t n)
{
    uint64_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        uint32_t any = 0;
        for (int k = 0; k < STEP; k++)
            any |= overflow32(bise_f32_bits(x[i + (uint64_t)k]));
        if (any >> 31)
            break;
    }
    for (; i < n; i++)
        if (overflow32(bise_f32_bits(x[i])) >> 31)
            return i;
    return UINT64_MAX;
}

/* First 16-bit float of n whose exponent bits (mask) are all ones. low is the
 * lowest bit of the exponent. */
static uint64_t find_half(const uint8_t *p, uint64_t n, uint16_t mask,
                          uint16_t low)
{
    uint64_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        uint16_t h[STEP], any = 0;
        memcpy(h, p + 2 * i, sizeof h);
        for (int k = 0; k < STEP; k++)
            any = (uint16_t)(any | (uint16_t)((h[k] & mask) + low));
        if (any >> 15)
            break;
    }
    for (; i < n; i++)
        if ((bise_load_le16(p + 2 * i) & mask) == mask)
            return i;
    return UINT64_MAX;
}

/* The same for float32 values at any byte address, as they lie in a
 * mapping: rows of a file need not be aligned. */
static uint64_t find_single(const uint8_t *p, uint64_t n)
{
    uint64_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        uint32_t w[STEP], any = 0;
        memcpy(w, p + 4 * i, sizeof w);
        for (int k = 0; k < STEP; k++)
            any |= overflow32(w[k]);
        if (any >> 31)
            break;
    }
    for (; i < n; i++)
        if (overflow32(bise_load_le32(p + 4 * i)) >> 31)
            return i;
    return UINT64_MAX;
}

/* Where a block type keeps its float16 scales: byte offsets, -1 none. */
typedef struct scale_place {
    bise_dtype dtype;
    int first, second;
} scale_place;

static const scale_place places[] = {
    { BISE_DTYPE_Q4_0, 0, -1 },    { BISE_DTYPE_Q4_1, 0, 2 },
    { BISE_DTYPE_Q5_0, 0, -1 },    { BISE_DTYPE_Q5_1, 0, 2 },
    { BISE_DTYPE_Q8_0, 0, -1 },    { BISE_DTYPE_Q2_K, 80, 82 },
    { BISE_DTYPE_Q3_K, 108, -1 },  { BISE_DTYPE_Q4_K, 0, 2 },
    { BISE_DTYPE_Q5_K, 0, 2 },     { BISE_DTYPE_Q6_K, 208, -1 },
    { BISE_DTYPE_IQ4_NL, 0, -1 },  { BISE_DTYPE_IQ4_XS, 0, -1 },
    { BISE_DTYPE_TQ1_0, 52, -1 },  { BISE_DTYPE_TQ2_0, 64, -1 },
    { BISE_DTYPE_Q1_0, 0, -1 },    { BISE_DTYPE_Q2_0, 0, -1 },
};

/* A float16 with all exponent bits set is an infinity or a NaN. */
static bool half_is_bad(const uint8_t *p)
{
    return (bise_load_le16(p) & 0x7c00) == 0x7c00;
}

/* Float types are their own blocks. Of the block types only the scale
 * fields can be bad: the codes have no invalid pattern, except the exponent
 * byte 255 of MXFP4. Types that have no row in the table have nothing to
 * check. */
uint64_t bise_find_bad_block(bise_dtype t, const void *bytes, uint64_t n)
{
    const uint8_t *p = bytes;
    if (t == BISE_DTYPE_F32)
        return find_single(p, n);
    if (t == BISE_DTYPE_F16)
        return find_half(p, n, 0x7c00, 0x0400);
    if (t == BISE_DTYPE_BF16)
        return find_half(p, n, 0x7f80, 0x0080);
    const bise_dtype_info *info = bise_dtype_get(t);
    const uint64_t blocks = n / info->block_len;
    for (uint64_t i = 0; t == BISE_DTYPE_MXFP4 && i < blocks; i++)
        if (p[i * info->block_bytes] == 255)    /* E8M0 NaN */
            return i * info->block_len;
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        if (places[k].dtype != t)
            continue;
        for (uint64_t i = 0; i < blocks; i++) {
            const uint8_t *b = p + i * info->block_bytes;
            if (half_is_bad(b + places[k].first) ||
                (places[k].second >= 0 && half_is_bad(b + places[k].second)))
                return i * info->block_len;
        }
    }
    return UINT64_MAX;
}

/* The one message about a bad weight, whoever meets it first. */
bise_status bise_check_weights(const float *x, uint64_t first, uint64_t n,
                               uint64_t cols, bise_error *err)
{
    const uint64_t i = bise_find_nonfinite(x, n * cols);
    if (i == UINT64_MAX)
        return BISE_OK;
    bise_status s = bise_fail(err, BISE_EFORMAT, "weight %" PRIu64 " (row %"
                              PRIu64 ", column %" PRIu64 ") is %s",
                              first * cols + i, first + i / cols, i % cols,
                              isnan(x[i]) ? "NaN" : "infinite");
    s = bise_error_hint(err, "--allow-nonfinite keeps it in a float type");
    return s;
}
