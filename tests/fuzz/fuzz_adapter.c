/* fuzz_adapter.c - any bytes as an adapter: the input is a settings file, a NUL
 * byte and a tensor file (safetensors or GGUF), laid into a directory. The
 * reader refuses it or gives modules that fit the base, which can be saved.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "model/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(const char *dir, const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(data, 1, n, f) != n))
        abort();
    fclose(f);
}

/* Load, check what was accepted against the base, save it again. */
static void try_load(const char *dir, const bise_config *c)
{
    bise_error err;
    bise_lora l;
    bise_error_init(&err);
    if (bise_lora_load_for(&l, dir, c, &err) != BISE_OK)
        return;
    for (size_t i = 0; i < l.n; i++) {
        uint64_t d[3];
        const bise_lora_module *m = &l.modules[i];
        if (c && (bise_role_shape(c, m->role, d) != 2 ||
                  d[0] != (uint64_t)m->out || d[1] != (uint64_t)m->in))
            abort();
    }
    char out[128];
    snprintf(out, sizeof out, "%s/out", dir);
    if (bise_mkdir(out, &err) == BISE_OK &&
        bise_lora_save_for(&l, c, false, NULL, out, &err) != BISE_OK && c)
        abort();
    bise_lora_fini(&l);
}

/* Split the input, lay out the files, read with and without a base. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bise_config c = { .family = BISE_FAMILY_MINISTRAL3, .C = 8, .F = 12,
                            .L = 2, .H = 4, .K = 2, .D = 6, .V = 10 };
    char dir[] = "/tmp/bise-fuzz-XXXXXX";
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    if (!cut || !mkdtemp(dir))
        return 0;
    const size_t head = (size_t)(cut - data), rest = size - head - 1;
    const char *file = rest > 4 && memcmp(cut + 1, "GGUF", 4) == 0
                           ? "adapter_model.safetensors"
                           : "adapters.safetensors";
    put(dir, "adapter_config.json", data, head);
    put(dir, "params.json", data, head);
    put(dir, file, cut + 1, rest);
    try_load(dir, &c);
    try_load(dir, NULL);
    bise_remove_tree(dir);
    return 0;
}
