/* card.c - what a checkpoint says about itself outside of its weights, read from
 * its model card or its GGUF keys when it is opened.
 *
 * The licence is the line of the card's YAML front matter ("other" is replaced
 * by license_name), GGUF's general.license, or what a LICENSE file is; it is
 * never inferred from a name (mistral3.md 1.6).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/card.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/mem.h"
#include "formats/gguf.h"
#include "model/lineage.h"

/* Copy a GGUF string, cut to the field. */
static void gguf_text(char *out, size_t size, const bise_gguf_meta *m,
                      const char *key)
{
    size_t n = 0;
    const char *s = m ? bise_gguf_str(m, key, &n) : NULL;
    if (s && n && !memchr(s, 0, n))
        snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), s);
}

/* The folder's or file's own name: never a path, which would tell of the
 * user's machine in outputs. */
static void name_of_path(bise_checkpoint *c)
{
    char *name = bise_path_name(bise_store_path(c->store));
    snprintf(c->base_name, sizeof c->base_name, "%s", name ? name : "");
    bise_free(name);
    static const char *const ends[] = { ".gguf", ".tar.zst", ".safetensors" };
    for (size_t i = 0; i < 3; i++)
        if (bise_ends_with(c->base_name, ends[i]))
            c->base_name[strlen(c->base_name) - strlen(ends[i])] = 0;
}

/* GGUF keys win over the card, which such files rarely have beside them. */
void bise_card_read(bise_checkpoint *c, const bise_progress *progress)
{
    const bise_gguf_meta *m = bise_store_gguf(c->store);
    name_of_path(c);
    gguf_text(c->base_name, sizeof c->base_name, m, "general.name");
    c->lineage = bise_lineage_read(c->store);
    snprintf(c->licence, sizeof c->licence, "%s",
             bise_lineage_licence(c->lineage));
    if (!c->licence[0])
        bise_progress_say(progress, "warning: the licence of %s is unknown (no "
                          "license line in a model card)", c->base_name);
    else if (strcasecmp(c->licence, "apache-2.0") != 0)
        bise_progress_say(progress, "warning: the licence of %s is '%s', not "
                          "Apache-2.0", c->base_name, c->licence);
}
