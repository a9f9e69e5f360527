/* dims.h - the one-letter dimensions used in all comments and signatures:
 *   B batch   T tokens   C hidden (channels)   H query heads   K key heads
 *   D head size   F feed-forward   V vocabulary   E experts   R LoRA rank
 *   L layers.  Gradients are "d" + name: dx is dLoss/dx.
 * Linear weights are [out, in] row major, y = x W^T for row vectors x.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_DIMS_H
#define BISE_MODEL_DIMS_H
#endif
