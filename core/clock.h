/* clock.h - monotonic time for measuring, and dates for outputs, which follow
 * SOURCE_DATE_EPOCH so that they can be reproduced.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_CLOCK_H
#define BISE_CORE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since an arbitrary start; never goes back. */
uint64_t bise_clock_ns(void);
/* Seconds since 1970: SOURCE_DATE_EPOCH when set, else now. */
int64_t bise_clock_epoch(void);
/* bise_clock_epoch() as "2026-11-22T21:44:14Z" into out. Returns out. */
char *bise_clock_iso(char out[32]);

#endif
