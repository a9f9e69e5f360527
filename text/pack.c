/* pack.c - samples to packs. The order of an epoch (order.h) is cut into
 * windows; inside a window samples are put into bins longest first, each into
 * the fullest bin that still has room (best fit decreasing), and the bins then
 * come in a shuffled order. Finding pack k of an epoch needs only the lengths
 * of the windows before it; their pack counts are kept for the current epoch.
 * Peak memory: one window, and 4 bytes for each window of the epoch.
 * Example, capacity 10, inputs 7 5 4 3 1 (longest first):
 *   7 -> bin 0 (3 left);  5 -> bin 1 (5 left);  4 -> bin 1 (1 left);
 *   3 -> bin 0 (0 left);  1 -> bin 1 (0 left):  two full packs.
 * First fit would do as well here; best fit matters when a small sample could
 * take the room that a larger one behind it needs.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/pack.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "text/order.h"

#define WINDOW 1024u /* samples packed together */
#define BIN_TAG 0x42494e53ull

/* A sample of the window, and the bin it went into. */
typedef struct item {
    uint64_t sample;
    int32_t len;       /* inputs: tokens - 1 */
    uint32_t position; /* within the window, breaks ties */
    uint32_t bin;
} item;

/* A bin with room left. */
typedef struct room {
    int32_t left;
    uint32_t bin;
} room;

struct bise_packer {
    const bise_dataset *d;
    bise_order *order;
    bise_pack_options o;
    uint64_t epoch;        /* whose windows are counted below */
    bool counted;
    uint32_t *packs;       /* [windows] packs of each window */
    uint64_t windows, total;
    uint64_t window;       /* the one laid out below */
    bool laid_out;
    item items[WINDOW];    /* sorted by bin */
    room open[WINDOW];
    uint32_t bin_of[WINDOW]; /* shuffled order of the bins */
    uint32_t n_items, n_bins;
    int32_t *ids, *targets, *seg;
    size_t cap_tokens, cap_seg;
};

/* Check the options against the samples. */
static bise_status check_options(const bise_dataset *d,
                                 const bise_pack_options *o, bise_error *err)
{
    if (!o->packing)
        return o->rows_per_pack >= 0 ? BISE_OK :
               bise_fail(err, BISE_EINVAL, "rows per pack is negative");
    if (o->max_tokens < 1)
        return bise_fail(err, BISE_EINVAL, "a pack needs room for a token");
    for (uint64_t i = 0; i < bise_dataset_count(d); i++) {
        const int32_t n = bise_dataset_len(d, i) - 1;
        if (n <= o->max_tokens)
            continue;
        bise_status s = bise_fail(err, BISE_EINVAL,
                                  "a sample of %d tokens does not fit packs "
                                  "of %d", (int)n + 1, (int)o->max_tokens);
        s = bise_error_hint(err, "lower --max-len or raise the tokens of a "
                            "batch");
        return s;
    }
    return BISE_OK;
}

/* One allocation for the windows' pack counts; the buffers of a pack grow with
 * the first packs and then stay. */
bise_status bise_packer_new(bise_packer **out, const bise_dataset *d,
                            const bise_pack_options *o, bise_error *err)
{
    bise_status s = check_options(d, o, err);
    if (s != BISE_OK)
        return s;
    bise_packer *p = bise_alloc(sizeof *p);
    if (!p)
        return bise_fail_nomem(err);
    p->d = d;
    p->o = *o;
    if (!p->o.rows_per_pack)
        p->o.rows_per_pack = 1;
    s = bise_order_new(&p->order, d, o->shuffle, o->seed, err);
    if (s == BISE_OK) {
        p->windows = (bise_order_count(p->order) + WINDOW - 1) / WINDOW;
        p->packs = bise_alloc_array(p->windows, sizeof *p->packs);
        if (!p->packs)
            s = bise_fail_nomem(err);
    }
    if (s != BISE_OK) {
        bise_packer_free(p);
        return s;
    }
    *out = p;
    return BISE_OK;
}

/* Any state that _new can leave behind. */
void bise_packer_free(bise_packer *p)
{
    if (!p)
        return;
    bise_order_free(p->order);
    bise_free(p->packs);
    bise_free(p->ids);
    bise_free(p->targets);
    bise_free(p->seg);
    bise_free(p);
}

/* Equal lengths keep the order of the epoch, which is what makes packs of the
 * same lengths differ from epoch to epoch. */
static int longest_first(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->len != y->len)
        return x->len > y->len ? -1 : 1;
    return x->position < y->position ? -1 : 1;
}

/* Inside a bin samples stand in the order of the epoch. */
static int by_bin(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->bin != y->bin)
        return x->bin < y->bin ? -1 : 1;
    return x->position < y->position ? -1 : 1;
}

/* First of the n rooms (rising) with at least need left. */
static uint32_t first_room(const room *open, uint32_t n, int32_t need)
{
    uint32_t a = 0, b = n;
    while (a < b) {
        const uint32_t m = (a + b) / 2;
        if (open[m].left < need)
            a = m + 1;
        else
            b = m;
    }
    return a;
}

/* Put items (longest first) into bins; returns the number of bins. */
static uint32_t fill_bins(bise_packer *p)
{
    uint32_t n_open = 0, bins = 0;
    for (uint32_t i = 0; i < p->n_items; i++) {
        item *it = &p->items[i];
        room r = { p->o.max_tokens, bins };
        uint32_t k = first_room(p->open, n_open, it->len);
        if (k < n_open) {                   /* take it out */
            r = p->open[k];
            n_open--;
            memmove(p->open + k, p->open + k + 1,
                    (n_open - k) * sizeof *p->open);
        } else {
            bins++;
        }
        it->bin = r.bin;
        r.left -= it->len;
        k = first_room(p->open, n_open, r.left);
        memmove(p->open + k + 1, p->open + k, (n_open - k) * sizeof *p->open);
        p->open[k] = r;
        n_open++;
    }
    return bins;
}

/* Items and bins of one window of an epoch. */
static void lay_out(bise_packer *p, uint64_t epoch, uint64_t window)
{
    const uint64_t first = window * WINDOW;
    const uint64_t left = bise_order_count(p->order) - first;
    p->n_items = left < WINDOW ? (uint32_t)left : WINDOW;
    for (uint32_t i = 0; i < p->n_items; i++) {
        const uint64_t s = bise_order_at(p->order, epoch, first + i);
        p->items[i] = (item) { .sample = s, .position = i,
                               .len = bise_dataset_len(p->d, s) - 1 };
    }
    qsort(p->items, p->n_items, sizeof *p->items, longest_first);
    p->n_bins = fill_bins(p);
    qsort(p->items, p->n_items, sizeof *p->items, by_bin);
    /* long samples open the first bins: shuffle, or lengths fall in a window */
    for (uint32_t i = 0; i < p->n_bins; i++)
        p->bin_of[i] = p->o.shuffle ?
            (uint32_t)bise_permute(i, p->n_bins, p->o.seed ^ BIN_TAG,
                                   epoch << 24 ^ window) : i;
    p->window = window;
    p->laid_out = true;
}

/* Rounded up: the last pack of an epoch may hold fewer rows. */
static uint64_t packs_by_rows(const bise_packer *p)
{
    const uint64_t n = bise_order_count(p->order);
    const uint64_t rows = (uint64_t)p->o.rows_per_pack;
    return (n + rows - 1) / rows;
}

/* Count the packs of every window of an epoch. */
static void count_packs(bise_packer *p, uint64_t epoch)
{
    if (p->counted && p->epoch == epoch)
        return;
    p->total = 0;
    p->laid_out = false;
    for (uint64_t w = 0; p->o.packing && w < p->windows; w++) {
        lay_out(p, epoch, w);
        p->packs[w] = p->n_bins;
        p->total += p->n_bins;
    }
    if (!p->o.packing)
        p->total = packs_by_rows(p);
    p->epoch = epoch;
    p->counted = true;
}

/* The empty share needs the lengths of all samples; asked for only when
 * wanted. */
bise_status bise_packer_count(bise_packer *p, uint64_t epoch, uint64_t *packs,
                              double *empty, bise_error *err)
{
    (void)err;
    count_packs(p, epoch);
    *packs = p->total;
    if (!empty)
        return BISE_OK;
    uint64_t used = 0;
    for (uint64_t i = 0; i < bise_order_count(p->order); i++) {
        const uint64_t s = bise_order_at(p->order, epoch, i);
        used += (uint64_t)bise_dataset_len(p->d, s) - 1;
    }
    const double room_for = (double)p->total * p->o.max_tokens;
    *empty = p->o.packing ? 1 - (double)used / room_for : 0;
    return BISE_OK;
}

/* Append one sample to the pack being made. */
static bise_status add_sample(bise_packer *p, bise_pack *out, uint64_t sample,
                              bise_error *err)
{
    bise_row row;
    bise_dataset_row(p->d, sample, &row);
    const size_t need = (size_t)out->T + (size_t)row.n - 1;
    size_t cap = p->cap_tokens;
    if (need > INT32_MAX)
        return bise_fail(err, BISE_EINVAL, "a pack of %zu tokens", need);
    if (bise_grow((void **)&p->ids, &cap, need, sizeof *p->ids) ||
        bise_grow((void **)&p->targets, &p->cap_tokens, need,
                  sizeof *p->targets) ||
        bise_grow((void **)&p->seg, &p->cap_seg, (size_t)out->n_seg + 2,
                  sizeof *p->seg))
        return bise_fail_nomem(err);
    p->seg[out->n_seg++] = out->T;
    for (int32_t i = 0; i + 1 < row.n; i++) {
        const bool trained = row.mask[i + 1] != 0;
        p->ids[out->T] = row.ids[i];
        p->targets[out->T++] = trained ? row.ids[i + 1] : -1;
        out->supervised += trained;
    }
    p->seg[out->n_seg] = out->T;
    out->rows++;
    return BISE_OK;
}

/* The samples of bin k of the window laid out. */
static bise_status add_bin(bise_packer *p, bise_pack *out, uint32_t bin,
                           bise_error *err)
{
    bise_status s = BISE_OK;
    for (uint32_t i = 0; s == BISE_OK && i < p->n_items; i++)
        if (p->items[i].bin == bin)
            s = add_sample(p, out, p->items[i].sample, err);
    return s;
}

/* The samples at the next rows_per_pack positions of the order. */
static bise_status add_rows(bise_packer *p, bise_pack *out,
                            const bise_cursor *at, bise_error *err)
{
    const uint64_t rows = (uint64_t)p->o.rows_per_pack;
    const uint64_t n = bise_order_count(p->order), first = at->pack * rows;
    bise_status s = BISE_OK;
    for (uint64_t i = first; s == BISE_OK && i < first + rows && i < n; i++)
        s = add_sample(p, out, bise_order_at(p->order, at->epoch, i), err);
    return s;
}

/* Layout of the window under the cursor, then its bin. A cursor past the end
 * (another file, other settings) goes on with the next epoch. */
bise_status bise_packer_next(bise_packer *p, bise_cursor *at, bise_pack *out,
                             bise_error *err)
{
    bise_pack made = { 0 };
    bise_status s = BISE_OK;
    count_packs(p, at->epoch);
    if (at->pack >= p->total) {     /* the end of an epoch, or a bad cursor */
        *at = (bise_cursor) { .epoch = at->epoch + 1 };
        count_packs(p, at->epoch);
    }
    if (p->o.packing) {
        uint64_t w = 0, k = at->pack;
        while (k >= p->packs[w])
            k -= p->packs[w++];
        if (!p->laid_out || p->window != w)
            lay_out(p, at->epoch, w);
        s = add_bin(p, &made, p->bin_of[k], err);
    } else {
        s = add_rows(p, &made, at, err);
    }
    if (s != BISE_OK)
        return s;
    made.ids = p->ids;
    made.targets = p->targets;
    made.seg = p->seg;
    *out = made;
    if (++at->pack == p->total)
        *at = (bise_cursor) { .epoch = at->epoch + 1 };
    return BISE_OK;
}
