/* codec_x86.h - what the x86 codec files offer to kernels/codecs.c. Every file
 * kernels/x86/codec_*.c is compiled once per instruction set, with the set's
 * name in BISE_ISA; each copy installs its encoders and decoders. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_CODEC_X86_H
#define BISE_KERNELS_X86_CODEC_X86_H

#include "kernels/codec.h"

/* Replace slots of the reference table by what the level allows. */
void bise_codecs_init_x86(bise_codec *table, bise_cpu level);

#endif
