/* oci.h - a model as an OCI image layout with the media types of CNCF ModelPack
 * (github.com/modelpack/model-spec, docs/spec.md and docs/config.md), for
 * registries: skopeo, ORAS, kit and modctl push the folder as it is.
 *   oci-layout | index.json | blobs/sha256/HEX: manifest, config, layers
 * Each file is one layer: raw, or tar+zstd where that saves 2 % of a large
 * file. Equal input gives equal bytes. Called by bise pack --oci.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_OCI_H
#define BISE_DEPLOY_OCI_H

#include "deploy/pack.h"

/* Files below this size are layers as they are. */
#define BISE_OCI_SMALL (UINT64_C(1) << 20)

/* As bise_pack, but out is a folder to make, result->packed the bytes of its
 * blobs, and result->planes 0: byte planes are no standard layer.
 * Peak memory: about 60 MiB. */
BISE_NODISCARD bise_status bise_oci_pack(const char *const *paths, size_t n,
                                         const char *out,
                                         const bise_pack_options *o,
                                         bise_pack_result *result,
                                         bise_error *err);

#endif
