/* order.c - shuffling without a list. A Feistel network over the next even
 * number of bits is a bijection of [0, 4^k); walking its cycle until the value
 * falls below n makes it one of [0, n) (Black and Rogaway 2002, "Ciphers with
 * arbitrary finite domains"). Each epoch has a stream of its own.
 * Weights are shares of an epoch: with 0.3 and 0.7 an epoch of all N samples
 * has 0.3 N from the first file and 0.7 N from the second. A file that has
 * fewer is passed several times, each time in another order; one that has more
 * gives the next part of itself in the next epoch, so that over time all of it
 * is seen.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/order.h"

#include "core/mem.h"
#include "core/rng.h"

#define ROUNDS 6
#define WHOLE 0u       /* stream of the order over all positions */
#define SHUFFLE_TAG 0x5348554646ull /* keeps these draws apart from others */

struct bise_order {
    const bise_dataset *d;
    bool shuffle, weighted;
    uint64_t seed, count;
    int32_t n_sources;
    uint64_t *end; /* [n_sources] positions of an epoch up to a source's end */
};

/* One pass of the network over 2 * half bits. */
static uint64_t feistel(uint64_t x, unsigned half, uint64_t seed,
                        uint64_t stream)
{
    const uint64_t low = ((uint64_t)1 << half) - 1;
    uint64_t a = x >> half, b = x & low;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        const uint64_t f = bise_rng_u64(seed ^ SHUFFLE_TAG,
                                        stream * ROUNDS + round, b) & low;
        const uint64_t t = a ^ f;
        a = b;
        b = t;
    }
    return a << half | b;
}

/* The smallest even number of bits that holds n keeps the walk short. */
uint64_t bise_permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t stream)
{
    unsigned half = 1;
    while (half < 31 && (uint64_t)1 << (2 * half) < n)
        half++;
    do                      /* at most 4 passes on average */
        i = feistel(i, half, seed, stream);
    while (i >= n);
    return i;
}

/* Positions of each source: its share of the epoch, rounded so that the parts
 * add up to the whole. */
static void share_out(bise_order *o)
{
    double sum = 0, at = 0;
    for (int32_t i = 0; i < o->n_sources; i++)
        sum += bise_dataset_source_at(o->d, i)->weight;
    for (int32_t i = 0; i < o->n_sources; i++) {
        at += bise_dataset_source_at(o->d, i)->weight;
        o->end[i] = (uint64_t)((double)o->count * (at / sum) + 0.5);
    }
    o->end[o->n_sources - 1] = o->count;
}

/* Shares are worked out once; an unweighted order needs no table. */
bise_status bise_order_new(bise_order **out, const bise_dataset *d,
                           bool shuffle, uint64_t seed, bise_error *err)
{
    bise_order *o = bise_alloc(sizeof *o);
    if (!o)
        return bise_fail_nomem(err);
    o->d = d;
    o->shuffle = shuffle;
    o->seed = seed;
    o->count = bise_dataset_count(d);
    o->n_sources = bise_dataset_source_count(d);
    o->end = bise_alloc_array((size_t)o->n_sources, sizeof *o->end);
    if (!o->end) {
        bise_free(o);
        return bise_fail_nomem(err);
    }
    for (int32_t i = 0; i < o->n_sources; i++)
        o->weighted |= bise_dataset_source_at(d, i)->weight > 0;
    if (o->weighted)
        share_out(o);
    *out = o;
    return BISE_OK;
}

/* The dataset stays with its owner. */
void bise_order_free(bise_order *o)
{
    if (!o)
        return;
    bise_free(o->end);
    bise_free(o);
}

/* Constant over the epochs: the number of steps can be planned. */
uint64_t bise_order_count(const bise_order *o)
{
    return o->count;
}

/* The k-th sample drawn from a source in an epoch. A source asked for more
 * than it has starts a new round in a new order; one asked for less gives
 * another part of itself in each epoch. */
static uint64_t draw(const bise_order *o, int32_t source, uint64_t epoch,
                     uint64_t k, uint64_t quota)
{
    const bise_dataset_source *s = bise_dataset_source_at(o->d, source);
    const uint64_t total = epoch * quota + k; /* drawn since the first epoch */
    const uint64_t round = total / s->count, i = total % s->count;
    if (!o->shuffle)
        return s->first + i;
    const uint64_t stream = (uint64_t)source + 1;
    return s->first + bise_permute(i, s->count, o->seed,
                                   stream << 40 ^ round);
}

/* First the place in the whole epoch, then, with weights, the file that owns
 * the place and the sample this file gives. */
uint64_t bise_order_at(const bise_order *o, uint64_t epoch, uint64_t position)
{
    const uint64_t p =
        o->shuffle ? bise_permute(position, o->count, o->seed,
                                  (uint64_t)WHOLE << 40 ^ epoch) : position;
    if (!o->weighted)
        return p;
    int32_t source = 0;
    while (p >= o->end[source])
        source++;
    const uint64_t from = source ? o->end[source - 1] : 0;
    return draw(o, source, epoch, p - from, o->end[source] - from);
}
