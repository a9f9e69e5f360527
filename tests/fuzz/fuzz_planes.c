/* fuzz_planes.c - any bytes as a byte plane header followed by data: ranges
 * that are accepted must split and join back to the same bytes, chunk by
 * chunk; and any bytes as a model must give ranges inside of it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "formats/planes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Split and join the first chunk of a file of the size the header names. */
static void round_trip(const bise_planes *p, const uint8_t *data, size_t size)
{
    const size_t n = p->size < 4096 ? (size_t)p->size : 4096;
    uint8_t *in = calloc(1, n + 1), *mid = malloc(n + 1), *out = malloc(n + 1);
    memcpy(in, data, size < n ? size : n);
    const size_t head = bise_planes_split(mid, in, n, 0, p);
    if (head > n)
        abort();
    bise_planes_join(out, mid, n, 0, p);
    if (memcmp(in, out, n) != 0)
        abort();
    free(in);
    free(mid);
    free(out);
}

/* A header written from what was read must be the same header. */
static void write_again(const bise_planes *p, const uint8_t *data)
{
    bise_str head = { 0 };
    bise_planes_put_head(&head, p);
    if (head.len != bise_planes_head_bytes(p) ||
        memcmp(head.data, data, head.len) != 0)
        abort();
    bise_str_fini(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_planes p;
    bise_error_init(&err);
    if (bise_planes_get_head(&p, data, size, &err) == BISE_OK) {
        write_again(&p, data);
        round_trip(&p, data, size);
        bise_planes_fini(&p);
    } else if (!err.text[0])
        abort();
    bise_error_init(&err);
    if (bise_planes_find(&p, data, size, &err) == BISE_OK) {
        for (size_t i = 0; i < p.n; i++)
            if (p.ranges[i].end > size ||
                p.ranges[i].start >= p.ranges[i].end)
                abort();
        if (p.n)
            round_trip(&p, data, size);
        bise_planes_fini(&p);
    }
    return 0;
}
