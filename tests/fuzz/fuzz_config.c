/* fuzz_config.c - any JSON as config.json and as params.json: the resolver
 * refuses it, or gives a configuration whose shapes, roles and rope tables can
 * be computed.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>

#include "core/mem.h"
#include "model/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Use what was accepted: every implied role must have a shape and a name. */
static void use(const bise_config *c)
{
    bise_role r[64];
    const size_t n = bise_config_roles(c, r, 64);
    for (size_t i = 0; i < n && i < 64; i++) {
        uint64_t d[3];
        char name[192];
        if (!bise_role_shape(c, r[i], d))
            abort();
        (void)bise_role_name_in(name, r[i], BISE_NAMES_GGUF, c->family);
    }
    const int32_t rotated = c->qk_rope ? c->qk_rope : c->D;
    double *freq = bise_alloc_array((size_t)rotated / 2 + 1, sizeof *freq);
    double factor = 0;
    if (freq)
        bise_rope_freqs(&c->rope, rotated, freq, &factor);
    (void)bise_rope_qscale(&c->rope, 100000);
    (void)bise_config_parameters(c);
    bise_free(freq);
}

/* The same JSON through both readers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_json *v = NULL;
    bise_config c;
    bise_error_init(&err);
    if (bise_json_parse(&v, (const char *)data, size, &err) != BISE_OK)
        return 0;
    if (bise_config_from_hf(&c, v, &err) == BISE_OK) {
        use(&c);
        bise_config_fini(&c);
    }
    bise_error_init(&err);
    if (bise_config_from_native(&c, v, &err) == BISE_OK) {
        use(&c);
        bise_config_fini(&c);
    }
    bise_json_free(v);
    return 0;
}
