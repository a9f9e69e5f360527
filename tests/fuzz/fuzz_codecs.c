/* fuzz_codecs.c - any bytes as blocks and as weights: decoders of every CPU
 * level agree on them, and encoders of every level write the same bytes for
 * what they are as finite floats, with and without importance.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "kernels/codec.h"

enum { MAX_N = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Equal floats, or both NaN. */
static void same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bise_f32_bits(a[i]) != bise_f32_bits(b[i]) &&
            !(isnan(a[i]) && isnan(b[i])))
            abort();
}

/* The bytes as blocks of a type. */
static void decode_all(bise_codec (*levels)[BISE_DTYPE_COUNT], int best,
                       bise_dtype t, const uint8_t *data, size_t size)
{
    const bise_dtype_info *info = bise_dtype_get(t);
    float want[MAX_N], got[MAX_N];
    size_t blocks = size / info->block_bytes;
    if (blocks > MAX_N / info->block_len)
        blocks = MAX_N / info->block_len;
    const size_t n = blocks * info->block_len;
    levels[0][t].decode(want, data, n);
    for (int l = 1; l <= best; l++) {
        levels[l][t].decode(got, data, n);
        same_floats(want, got, n);
    }
}

/* The bytes as weights below 1e15 in rows of one or two blocks. Cubes of them
 * overflow, so that NaN scales are compared too. */
static void encode_all(bise_codec (*levels)[BISE_DTYPE_COUNT], int best,
                       bise_dtype t, const uint8_t *data, size_t size)
{
    const size_t block = bise_dtype_get(t)->block_len;
    float x[MAX_N], q[MAX_N];
    uint8_t want[4 * MAX_N], got[4 * MAX_N];
    size_t n = size / 4 < MAX_N ? size / 4 : MAX_N;
    for (size_t i = 0; i < n; i++) {
        x[i] = bise_bits_f32(bise_load_le32(data + 4 * i));
        if (!(fabsf(x[i]) < 1e15f))
            x[i] = (float)(int8_t)data[4 * i];
        q[i] = fabsf(x[i]) < 1e6f ? fabsf(x[i]) : 1;
    }
    const size_t cols = n >= 2 * block && size % 2 ? 2 * block : block;
    const size_t rows = n / cols;
    const size_t bytes = (size_t)bise_dtype_bytes(t, rows * cols);
    for (int weighted = 0; weighted < 2; weighted++) {
        levels[0][t].encode(want, x, rows, cols, weighted ? q : NULL);
        for (int l = 1; l <= best; l++) {
            levels[l][t].encode(got, x, rows, cols, weighted ? q : NULL);
            if (memcmp(want, got, bytes) != 0)
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const bise_dtype types[] = {
        BISE_DTYPE_F16, BISE_DTYPE_BF16, BISE_DTYPE_F8_E4M3,
        BISE_DTYPE_F8_E5M2, BISE_DTYPE_Q4_0, BISE_DTYPE_Q4_1,
        BISE_DTYPE_Q5_0, BISE_DTYPE_Q5_1, BISE_DTYPE_Q8_0, BISE_DTYPE_Q2_K,
        BISE_DTYPE_Q3_K, BISE_DTYPE_Q4_K, BISE_DTYPE_Q5_K, BISE_DTYPE_Q6_K,
        BISE_DTYPE_IQ4_NL, BISE_DTYPE_IQ4_XS, BISE_DTYPE_TQ1_0,
        BISE_DTYPE_TQ2_0, BISE_DTYPE_MXFP4, BISE_DTYPE_NVFP4
    };
    bise_codec levels[BISE_CPU_AVX512BF16 + 1][BISE_DTYPE_COUNT];
    const int best = (int)bise_cpu_level();
    if (size < 1)
        return 0;
    for (int l = 0; l <= best; l++)
        bise_codecs_init(levels[l], (bise_cpu)l);
    const bise_dtype t = types[data[0] % (sizeof types / sizeof types[0])];
    decode_all(levels, best, t, data + 1, size - 1);
    if (levels[0][t].encode)
        encode_all(levels, best, t, data + 1, size - 1);
    return 0;
}
