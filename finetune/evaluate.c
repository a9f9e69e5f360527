/* evaluate.c - the loss of the adapter on a data set: every sample once, in file
 * order and whole, packed side by side, each token with the same weight
 * (lora.md 10). Called by the loop at step 0, every N steps and at the end.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/trainer.h"

/* Packs in file order make the passes of an evaluation the same every time,
 * whatever the training order; the sum is in double because it runs over all
 * tokens of the set. */
bise_status bise_trainer_evaluate(bise_trainer *t, const bise_dataset *d,
                                  int32_t max_tokens, double *loss,
                                  bise_error *err)
{
    const bise_pack_options po = { .max_tokens = max_tokens, .packing = true };
    bise_packer *p = NULL;
    bise_cursor at = { 0 };
    double sum = 0, empty;
    uint64_t targets = 0, packs = 0;
    bise_status s = bise_packer_new(&p, d, &po, err);
    if (!s)
        s = bise_packer_count(p, 0, &packs, &empty, err);
    /* One pass in file order; the cursor leaves epoch 0 after the last. */
    for (uint64_t i = 0; i < packs && !s; i++) {
        bise_pack k;
        s = bise_trainer_cancelled(t)
                ? bise_fail(err, BISE_ECANCEL, "interrupted")
                : bise_packer_next(p, &at, &k, err);
        if (s)
            break;
        const bise_batch b = { .ids = k.ids, .seg = k.seg, .T = k.T,
                               .n_seg = k.n_seg, .targets = k.targets };
        s = bise_graph_loss(t->o.graph, &b, &sum, NULL, err);
        targets += (uint64_t)k.supervised;
    }
    bise_packer_free(p);
    if (!s && !targets)
        s = bise_fail(err, BISE_EINVAL, "evaluation data has no token to "
                                        "score");
    if (!s)
        *loss = sum / (double)targets;
    return s;
}
