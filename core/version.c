/* version.c - see version.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/version.h"

const char *bise_version(void)
{
    return PACKAGE_VERSION;
}
