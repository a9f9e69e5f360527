/* cpu.c - CPU level by cpuid, core count by affinity and cgroup quota.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "ref", "avx2", "avx512", "avx512bf16" };

/* What the hardware and the operating system support. */
static bise_cpu detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return BISE_CPU_REF;
    if (!__builtin_cpu_supports("avx512f") ||
        !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512vnni"))
        return BISE_CPU_AVX2;
    return __builtin_cpu_supports("avx512bf16") ? BISE_CPU_AVX512BF16 :
                                                  BISE_CPU_AVX512;
#else
    return BISE_CPU_REF;
#endif
}

int bise_cpu_by_name(const char *name)
{
    for (int i = 0; i <= BISE_CPU_AVX512BF16; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

/* An unknown name in BISE_CPU caps nothing. */
bise_cpu bise_cpu_level(void)
{
    const bise_cpu have = detect();
    const char *cap = getenv("BISE_CPU");
    const int level = cap ? bise_cpu_by_name(cap) : -1;
    return level >= 0 && (bise_cpu)level < have ? (bise_cpu)level : have;
}

const char *bise_cpu_name(bise_cpu level)
{
    return names[level];
}

/* Whole cores of a cgroup v2 quota, or a large number without one. */
static int cgroup_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    double quota = 0, period = 0;
    if (!f)
        return 1 << 20;
    const int got = fscanf(f, "%lf %lf", &quota, &period);
    fclose(f);
    if (got != 2 || period <= 0)
        return 1 << 20;
    const int cores = (int)(quota / period + 0.999);
    return cores < 1 ? 1 : cores;
}

/* The least of what is online, in the affinity mask, and in the cgroup. */
int bise_cpu_cores(void)
{
    int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
#endif
    const int quota = cgroup_cores();
    n = quota < n ? quota : n;
    return n < 1 ? 1 : n;
}

/* Read once from /proc/cpuinfo; the first line named "model name" counts. */
const char *bise_cpu_model(void)
{
    static char model[128] = "";
    if (model[0])
        return model;
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            snprintf(model, sizeof model, "%s", colon + 2);
            model[strcspn(model, "\n")] = 0;
            break;
        }
    }
    if (f)
        fclose(f);
    if (!model[0])
        snprintf(model, sizeof model, "unknown");
    return model;
}
