/* loss_rows.c - the rows that carry loss. After the attention of the last layer
 * a row meets no other, so those without a target are left out from there on,
 * forward and backward: their output is not read and their gradient is zero.
 * The others move to the front of the same buffers, in order, which are then
 * those of a smaller batch. Dropout sees a row's place in it. Called by loss.c
 * and where the layers pass that point.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "model/graph_int.h"

/* Going up, a row never lands on one that is still to move. */
void graph_narrow(bise_graph *g, void *x, size_t bytes)
{
    uint8_t *at = x;
    if (!g->n_loss)
        return;
    for (int32_t i = 0; i < g->n_loss; i++)
        memmove(at + (size_t)i * bytes, at + (size_t)g->rows[i] * bytes,
                bytes);
    g->T = g->n_loss;
}

/* Going down, likewise. */
void graph_widen(bise_graph *g, void *x, size_t bytes)
{
    uint8_t *at = x;
    int32_t left = g->n_loss;
    if (!left)
        return;
    g->T = g->seg[g->n_seg];
    for (int32_t t = g->T - 1; t >= 0; t--) {
        if (left && g->rows[left - 1] == t)
            memmove(at + (size_t)t * bytes, at + (size_t)--left * bytes,
                    bytes);
        else
            memset(at + (size_t)t * bytes, 0, bytes);
    }
}
