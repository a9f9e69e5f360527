/* check_main.h - what every Check program starts with: the runner, an error
 * object helper, and the paths of test data. A test program defines
 * static Suite *suite(void) and ends with BISE_CHECK_MAIN.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_CHECK_MAIN_H
#define BISE_TESTS_CHECK_MAIN_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"

/* The status must be BISE_OK; shows the error's text otherwise. */
#define ck_ok(call) \
    do { \
        bise_error_init(&err); \
        const bise_status ck_s_ = (call); \
        ck_assert_msg(ck_s_ == BISE_OK, "%s: %s [%s]", #call, err.text, \
                      err.path); \
    } while (0)

/* The status must be the given failure. */
#define ck_fails(call, want) \
    do { \
        bise_error_init(&err); \
        const bise_status ck_s_ = (call); \
        ck_assert_msg(ck_s_ == (want) && err.text[0], "%s: status %d '%s'", \
                      #call, (int)ck_s_, err.text); \
    } while (0)

#define BISE_CHECK_MAIN \
    int main(void) \
    { \
        SRunner *r = srunner_create(suite()); \
        srunner_run_all(r, CK_ENV); \
        const int failed = srunner_ntests_failed(r); \
        srunner_free(r); \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS; \
    }

#endif
