/* clock.c - the monotonic clock for measuring and UTC dates for outputs, which
 * SOURCE_DATE_EPOCH can fix; see clock.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/clock.h"

#include <stdlib.h>
#include <time.h>

uint64_t bise_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t bise_clock_epoch(void)
{
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    return fixed && *fixed ? strtoll(fixed, NULL, 10) : (int64_t)time(NULL);
}

/* UTC, whatever the time zone. */
char *bise_clock_iso(char out[32])
{
    const time_t t = (time_t)bise_clock_epoch();
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}
