/* tokenizer_files.c - see tokenizer_files.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/tokenizer_files.h"

#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "text/chat.h"
#include "text/tokenizer.h"

/* Has the store a file of Mistral's own tools? */
static bool has_native(const bise_store *s)
{
    if (bise_store_has_file(s, "tekken.json"))
        return true;
    for (size_t i = 0; i < bise_store_file_count(s); i++)
        if (bise_starts_with(bise_store_file_at(s, i), "tokenizer.model"))
            return true;
    return false;
}

/* Is there anything to make it from? A GGUF says when it has no vocabulary. */
static bool has_vocabulary(const bise_store *s)
{
    const bise_gguf_meta *m = bise_store_gguf(s);
    if (m)
        return bise_gguf_get(m, "tokenizer.ggml.tokens") != NULL;
    return bise_vocabulary_has_tokenizer(s);
}

/* The name of a special token under a key, when the tokenizer has it. */
static void put_token(bise_json *o, const char *key, const bise_tokenizer *t,
                      int32_t id)
{
    const char *name = id >= 0 ? bise_tokenizer_special_name(t, id) : NULL;
    if (name)
        bise_json_set(o, key, bise_json_new_string(name));
}

/* The general class of transformers: tokenizer.json says everything about ids,
 * classes of a family would build some of it themselves. */
static bise_status add_config(bise_plan *p, const bise_checkpoint *c,
                              const bise_tokenizer *t, bise_error *err)
{
    bise_json *o = bise_json_new_object();
    bise_str text = { 0 };
    bise_json_set(o, "add_bos_token",
                  bise_json_new_bool(bise_tokenizer_bos(t) >= 0));
    bise_json_set(o, "add_eos_token", bise_json_new_bool(false));
    put_token(o, "bos_token", t, bise_tokenizer_bos(t));
    put_token(o, "eos_token", t, bise_tokenizer_eos(t));
    put_token(o, "unk_token", t, bise_tokenizer_unk(t));
    put_token(o, "pad_token", t, bise_tokenizer_pad(t));
    bise_json_set(o, "clean_up_tokenization_spaces", bise_json_new_bool(false));
    bise_json_set(o, "model_max_length",
                  bise_json_new_int(c->config.max_position));
    bise_json_set(o, "tokenizer_class",
                  bise_json_new_string("PreTrainedTokenizerFast"));
    bise_json_dump(&text, o, 2, false);
    bise_str_putc(&text, '\n');
    bise_status s = bise_str_ok(&text) ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = bise_plan_add_text(p, "tokenizer_config.json", bise_str_get(&text),
                               text.len, err);
    bise_json_free(o);
    bise_str_fini(&text);
    return s;
}

/* A tokenizer that cannot be told in a format leaves its file out: the weights
 * are as good without, and the warning names what the user has to copy. */
static bise_status skip(const char *name, bise_status s, bise_error *err,
                        const bise_progress *progress)
{
    if (s != BISE_EUNSUPPORTED && s != BISE_EFORMAT)
        return s;
    bise_progress_say(progress, "warning: %s is not written, copy it from the "
                      "original model: %s", name, err->text);
    bise_error_init(err);
    return BISE_OK;
}

static bise_status add_hf(bise_plan *p, const bise_checkpoint *c,
                          const bise_tokenizer *t,
                          const bise_progress *progress, bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = bise_tokenizer_to_hf(t, &text, err);
    const bool made = s == BISE_OK;
    if (made)
        s = bise_plan_add_text(p, "tokenizer.json", bise_str_get(&text),
                               text.len, err);
    if (made && s == BISE_OK &&
        !bise_store_has_file(c->store, "tokenizer_config.json"))
        s = add_config(p, c, t, err);
    bise_str_fini(&text);
    return made ? s : skip("tokenizer.json", s, err, progress);
}

/* The version is in the name of SentencePiece files: readers of Mistral's go
 * by it (tokenizer.model.v3). */
static bise_status add_native(bise_plan *p, const bise_tokenizer *t,
                              const bise_progress *progress, bise_error *err)
{
    char name[32] = "tekken.json";
    const bool spm = bise_tokenizer_kind_of(t) == BISE_TOKENIZER_SPM;
    bise_str text = { 0 };
    if (spm)
        snprintf(name, sizeof name, "tokenizer.model.v%d",
                 bise_chat_version(t));
    bise_status s = spm ? bise_tokenizer_to_spm(t, &text, err)
                        : bise_tokenizer_to_tekken(t, &text, err);
    const bool made = s == BISE_OK;
    if (made)
        s = bise_plan_add_text(p, name, bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    return made ? s : skip(name, s, err, progress);
}

/* Files of the layout that are there are copied by others. */
bise_status bise_tokenizer_files_add(bise_plan *p, bise_checkpoint *c,
                                     bise_layout to,
                                     const bise_progress *progress,
                                     bise_error *err)
{
    const bool hf = to == BISE_TO_HF;
    bise_tokenizer *t = NULL;
    if (hf ? bise_store_has_file(c->store, "tokenizer.json")
           : has_native(c->store))
        return BISE_OK;
    if (!has_vocabulary(c->store)) {
        bise_progress_say(progress, "note: there is no tokenizer in the model, "
                          "none is written");
        return BISE_OK;
    }
    bise_status s = bise_tokenizer_open(&t, c->store, NULL, err);
    if (s != BISE_OK)
        return skip(hf ? "tokenizer.json" : "tekken.json", s, err, progress);
    s = hf ? add_hf(p, c, t, progress, err)
           : add_native(p, t, progress, err);
    bise_tokenizer_free(t);
    return s;
}
