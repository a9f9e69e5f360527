/* order.h - the order of samples in an epoch as a pure function: position ->
 * sample, computed on demand, so that neither shuffling nor resuming keeps a
 * list. Weighted files get their share of every epoch.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_ORDER_H
#define BISE_TEXT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "text/dataset.h"

typedef struct bise_order bise_order;

/* Borrow d for the life of the order. */
BISE_NODISCARD bise_status bise_order_new(bise_order **out,
                                          const bise_dataset *d, bool shuffle,
                                          uint64_t seed, bise_error *err);
void bise_order_free(bise_order *o);
/* Positions of an epoch: as many as there are samples, with or without
 * weights. */
uint64_t bise_order_count(const bise_order *o);
/* The sample at a position (below the count) of an epoch. */
uint64_t bise_order_at(const bise_order *o, uint64_t epoch, uint64_t position);
/* Position i of a keyed permutation of 0..n-1 (n > 0). */
uint64_t bise_permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t stream);

#endif
