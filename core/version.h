/* version.h - the version that outputs are signed with. A function, because
 * model/ has a config.h of its own and does not see the one of configure.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_VERSION_H
#define BISE_CORE_VERSION_H

/* "0.1.0". Static. */
const char *bise_version(void);

#endif
