/* cpu.h - what the processor can do, and how many cores this process may use.
 * BISE_CPU=ref|avx2|avx512|avx512bf16 caps the level in any build.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_CPU_H
#define BISE_CORE_CPU_H

/* Levels in rising order; each includes the ones below on x86. */
typedef enum {
    BISE_CPU_REF,
    BISE_CPU_AVX2,      /* AVX2, FMA, F16C */
    BISE_CPU_AVX512,    /* F, BW, DQ, VL, VNNI */
    BISE_CPU_AVX512BF16 /* + BF16 dot products */
} bise_cpu;

/* The best level of this machine, capped by the environment's BISE_CPU. */
bise_cpu bise_cpu_level(void);
/* "ref", "avx2", "avx512", "avx512bf16". */
const char *bise_cpu_name(bise_cpu level);
/* Level by name; -1 when there is none. */
int bise_cpu_by_name(const char *name);
/* Cores in this process's affinity mask, limited by its cgroup quota; >= 1. */
int bise_cpu_cores(void);
/* Model name of the processor for reports, "unknown" otherwise. Static. */
const char *bise_cpu_model(void);

#endif
