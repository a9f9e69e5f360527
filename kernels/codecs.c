/* codecs.c - the table of block codecs: the scalar reference of every type
 * first, then what the instruction sets do faster with the same bytes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec.h"

#include <pthread.h>
#include <string.h>

#include "kernels/codec_ref.h"
#include "kernels/nf4.h"

/* Reference first, then the instruction sets up to level. */
void bise_codecs_init(bise_codec table[BISE_DTYPE_COUNT], bise_cpu level)
{
    /* every slot of the reference, then the overrides */
    memset(table, 0, BISE_DTYPE_COUNT * sizeof table[0]);
#define BISE_CODEC(id, name) \
    table[BISE_DTYPE_##id] = \
        (bise_codec){ bise_encode_##name##_ref, bise_decode_##name##_ref };
#define BISE_DECODER(id, name) \
    table[BISE_DTYPE_##id] = (bise_codec){ NULL, bise_decode_##name##_ref };
#include "kernels/codecs.def"
#undef BISE_CODEC
#undef BISE_DECODER
#if BISE_X86
    bise_codecs_init_x86(table, level);
#else
    (void)level;
#endif
}

/* The table of this process and the guard that fills it once. */
static struct {
    pthread_once_t once;
    bise_codec codecs[BISE_DTYPE_COUNT];
    bise_nf4_ops nf4;
} process = { .once = PTHREAD_ONCE_INIT };

static void init_process(void)
{
    bise_codecs_init(process.codecs, bise_cpu_level());
    bise_nf4_ops_init(&process.nf4, bise_cpu_level());
}

/* Thread-safe; the table lives for ever. */
const bise_codec *bise_codec_get(bise_dtype t)
{
    pthread_once(&process.once, init_process);
    return &process.codecs[t];
}

/* The same for codes whose scales stand beside them. */
const bise_nf4_ops *bise_nf4_ops_get(void)
{
    pthread_once(&process.once, init_process);
    return &process.nf4;
}
