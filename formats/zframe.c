/* zframe.c - see zframe.h. Frames carry their content size and a checksum, so
 * that any zstd unpacks and checks them; raw frames are written by hand
 * because that costs a copy instead of a search for matches.
 * Raw frames unpack at the speed of memcpy plus a checksum, which is why
 * quantized weights, that do not compress, cost nothing to keep in an archive.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/zframe.h"

#include <inttypes.h>
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode */
#include <zstd.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "formats/xxh64.h"

#define FRAME_MAGIC 0xfd2fb528u
#define SKIP_MAGIC 0x184d2a5eu  /* skippable frame of a seek table */
#define TABLE_MAGIC 0x8f92eab1u
#define BLOCK (128u << 10)      /* largest block of a frame */
#define SAMPLE (64u << 10)      /* tried before a whole frame is */
#define FOOTER 9                /* count, descriptor, magic */

struct bise_zcoder {
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
    uint8_t *sample;            /* room for a packed sample */
};

/* One for each thread; both directions, as most users need both. */
bise_zcoder *bise_zcoder_new(void)
{
    bise_zcoder *z = bise_alloc(sizeof *z);
    if (!z)
        return NULL;
    z->c = ZSTD_createCCtx();
    z->d = ZSTD_createDCtx();
    z->sample = bise_alloc(ZSTD_compressBound(SAMPLE));
    if (!z->c || !z->d || !z->sample) {
        bise_zcoder_free(z);
        return NULL;
    }
    return z;
}

/* NULL is fine. */
void bise_zcoder_free(bise_zcoder *z)
{
    if (!z)
        return;
    ZSTD_freeCCtx(z->c);
    ZSTD_freeDCtx(z->d);
    bise_free(z->sample);
    bise_free(z);
}

/* The larger of what raw blocks and zstd itself may need. */
size_t bise_zframe_bound(size_t n)
{
    const size_t stored = 13 + n + 3 * (n / BLOCK + 1);
    const size_t packed = ZSTD_compressBound(n) + 4;
    return stored > packed ? stored : packed;
}

/* Frame header: magic, descriptor (4-byte content size, single segment,
 * checksum), content size. Blocks: 3-byte header (last, type 0, size). */
size_t bise_zframe_store(void *out, const void *data, size_t n)
{
    uint8_t *p = out;
    const uint8_t *in = data;
    bise_store_le32(p, FRAME_MAGIC);
    p[4] = 2 << 6 | 1 << 5 | 1 << 2;
    bise_store_le32(p + 5, (uint32_t)n);
    p += 9;
    size_t left = n;
    do {
        const size_t k = left < BLOCK ? left : BLOCK;
        const uint32_t head = (uint32_t)(k << 3) | (k == left);
        p[0] = (uint8_t)head;
        p[1] = (uint8_t)(head >> 8);
        p[2] = (uint8_t)(head >> 16);
        memcpy(p + 3, in, k);
        p += 3 + k;
        in += k;
        left -= k;
    } while (left);
    bise_store_le32(p, (uint32_t)bise_xxh64(data, n));
    return (size_t)(p + 4 - (uint8_t *)out);
}

/* Do two samples of a large frame promise a gain of 2 %? */
static bool promising(bise_zcoder *z, const uint8_t *data, size_t n)
{
    const size_t at[2] = { 0, n / 2 };
    size_t packed = 0;
    if (n < 8 * SAMPLE)
        return true;                            /* just try */
    for (int i = 0; i < 2; i++) {
        const size_t r = ZSTD_compressCCtx(z->c, z->sample,
                                           ZSTD_compressBound(SAMPLE),
                                           data + at[i], SAMPLE, 1);
        if (ZSTD_isError(r))
            return true;
        packed += r;
    }
    return packed * 50 <= 2 * SAMPLE * (size_t)49;
}

/* BISE_ZFRAME_SYMBOLS: long steps between attempts to find a match, and the
 * entropy coder on what is left. zstd would switch that off at such a speed;
 * a libzstd that cannot be told otherwise keeps short steps. */
static void set_symbols(ZSTD_CCtx *c)
{
    ZSTD_CCtx_setParameter(c, ZSTD_c_minMatch, 7);
    ZSTD_CCtx_setParameter(c, ZSTD_c_hashLog, 6);
    if (!ZSTD_isError(ZSTD_CCtx_setParameter(
            c, ZSTD_c_literalCompressionMode, 1)))  /* always */
        ZSTD_CCtx_setParameter(c, ZSTD_c_targetLength, 4096);
}

/* Samples first: on quantized weights a full attempt would cost most of the
 * time and gain nothing. A frame that gained less than 2 % is stored raw,
 * because it unpacks at the speed of memory. */
size_t bise_zframe_pack(bise_zcoder *z, void *out, const void *data, size_t n,
                        int level)
{
    const bool symbols = level == BISE_ZFRAME_SYMBOLS;
    if (n && (symbols || promising(z, data, n))) {
        ZSTD_CCtx_reset(z->c, ZSTD_reset_session_and_parameters);
        ZSTD_CCtx_setParameter(z->c, ZSTD_c_compressionLevel,
                               symbols ? 1 : level);
        if (symbols)
            set_symbols(z->c);
        ZSTD_CCtx_setParameter(z->c, ZSTD_c_checksumFlag, 1);
        const size_t r = ZSTD_compress2(z->c, out, bise_zframe_bound(n), data,
                                        n);
        if (ZSTD_isError(r))
            return 0;
        if (r * 50 <= n * 49)
            return r;
    }
    return bise_zframe_store(out, data, n);
}

/* Computing it once is enough. */
uint32_t bise_zframe_check(const void *frame, size_t packed)
{
    return bise_load_le32((const uint8_t *)frame + packed - 4);
}

/* Exactly one frame, exactly n bytes, the checksum right. */
bool bise_zframe_unpack(bise_zcoder *z, void *out, size_t n, const void *data,
                        size_t packed)
{
    const size_t size = ZSTD_findFrameCompressedSize(data, packed);
    if (ZSTD_isError(size) || size != packed)
        return false;                           /* exactly one frame */
    const size_t r = ZSTD_decompressDCtx(z->d, out, n, data, packed);
    return !ZSTD_isError(r) && r == n;
}

/* Append a little-endian u32. */
static void put_u32(bise_str *out, uint32_t v)
{
    uint8_t b[4];
    bise_store_le32(b, v);
    bise_str_add(out, b, sizeof b);
}

/* Layout of zstd_seekable_compression_format.md: a skippable frame, so that
 * plain zstd passes over it. */
void bise_zframe_put_table(bise_str *out, const bise_frame *frames, size_t n)
{
    put_u32(out, SKIP_MAGIC);
    put_u32(out, (uint32_t)(12 * n + FOOTER));
    for (size_t i = 0; i < n; i++) {
        put_u32(out, frames[i].packed);
        put_u32(out, frames[i].bytes);
        put_u32(out, frames[i].check);
    }
    put_u32(out, (uint32_t)n);
    bise_str_putc(out, (char)0x80);             /* entries have checksums */
    put_u32(out, TABLE_MAGIC);
}

/* Read n entries; they must tile the limit bytes before the table. */
static bise_status get_entries(bise_frame *frames, size_t n, unsigned width,
                               const uint8_t *p, uint64_t limit,
                               bise_error *err)
{
    uint64_t at = 0, pos = 0;
    for (size_t i = 0; i < n; i++, p += width) {
        bise_frame *f = &frames[i];
        *f = (bise_frame){ .at = at, .pos = pos, .packed = bise_load_le32(p),
                           .bytes = bise_load_le32(p + 4) };
        if (f->packed > limit - at)
            return bise_fail_at(err, BISE_EFORMAT, (int64_t)at,
                                "frame %zu of %" PRIu32 " bytes goes past the "
                                "end of the frames", i, f->packed);
        if (f->bytes > BISE_ZFRAME_MAX)
            return bise_fail_at(err, BISE_EUNSUPPORTED, (int64_t)at,
                                "frame %zu holds %" PRIu32 " bytes, at most %"
                                PRIu32 " are read", i, f->bytes,
                                BISE_ZFRAME_MAX);
        at += f->packed;
        pos += f->bytes;
    }
    if (at != limit)
        return bise_fail_at(err, BISE_EFORMAT, (int64_t)at, "%" PRIu64
                            " bytes between the last frame and the table",
                            limit - at);
    return BISE_OK;
}

/* Read from the end: magic, flags, count, and from the count where the table
 * begins. Its entries must cover the file before it exactly. */
bise_status bise_zframe_get_table(bise_frame **frames, size_t *n,
                                  const uint8_t *file, uint64_t size,
                                  bise_error *err)
{
    if (size < FOOTER + 8 ||
        bise_load_le32(file + size - 4) != TABLE_MAGIC) {
        bise_status s = bise_fail_at(err, BISE_EFORMAT, (int64_t)size,
                                     "no seek table at the end");
        return s = bise_error_hint(err, "the archive is cut off, or was not "
                                   "made by bise pack");
    }
    const uint64_t count = bise_load_le32(file + size - FOOTER);
    const uint8_t flags = file[size - 5];
    const unsigned width = flags & 0x80 ? 12 : 8;
    const uint64_t body = count * width + FOOTER;
    if (flags & 0x7c)
        return bise_fail_at(err, BISE_EUNSUPPORTED, (int64_t)size - 5,
                            "unknown seek table descriptor 0x%02x", flags);
    if (body + 8 > size ||
        bise_load_le32(file + size - body - 8) != SKIP_MAGIC ||
        bise_load_le32(file + size - body - 4) != body)
        return bise_fail_at(err, BISE_EFORMAT, (int64_t)size - FOOTER,
                            "seek table of %" PRIu64 " frames does not fit",
                            count);
    bise_frame *list = bise_alloc_array((size_t)count + 1, sizeof *list);
    if (!list)
        return bise_fail_nomem(err);
    const bise_status s = get_entries(list, (size_t)count, width,
                                      file + size - body, size - body - 8,
                                      err);
    if (s != BISE_OK) {
        bise_free(list);
        return s;
    }
    *frames = list;
    *n = (size_t)count;
    return BISE_OK;
}
