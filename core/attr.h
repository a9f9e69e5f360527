/* attr.h - compiler attributes behind portable names, the only place outside
 * kernels/ where a compiler extension may be written. Included by every header
 * that declares a function which can fail or that formats text.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_ATTR_H
#define BISE_CORE_ATTR_H

#if defined(__GNUC__) || defined(__clang__)
#define BISE_NODISCARD __attribute__((warn_unused_result))
#define BISE_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define BISE_UNUSED __attribute__((unused))
#define BISE_ALIGNED(n) __attribute__((aligned(n)))
#else
#define BISE_NODISCARD
#define BISE_PRINTF(fmt, first)
#define BISE_UNUSED
#define BISE_ALIGNED(n)
#endif

#endif
