/* trainstate.c - save and restore of the trainer as a whole, with fingerprints
 * that refuse to continue with another model, data set or setting. Floats are
 * stored as they are in memory, so a restored run takes the same steps. Called
 * by finetune.c at its save points.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/trainstate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "formats/crypto.h"
#include "formats/safetensors.h"

/* Raised when a file of this program could be misread by an older one. A
 * checkpoint is for resuming with the same program; what others read of it is
 * the adapter, which has a format of its own. */
#define FORMAT_VERSION 1

/* Bytes sampled from each end of a tensor for the fingerprint. */
enum { SAMPLE = 512 };

/* Bytes of one end of a tensor into the hash. */
static bise_status add_sample(bise_sha256 *h, const bise_checkpoint *c,
                              const bise_tensor *t, uint64_t first,
                              uint64_t n, bise_error *err)
{
    uint8_t scratch[SAMPLE];
    const void *data;
    if (bise_store_read(c->store, t, first, n, scratch, &data, err))
        return err->status;
    bise_sha256_add(h, data, n);
    return BISE_OK;
}

/* Name, type, shape and both ends of one tensor. */
static bise_status add_tensor(bise_sha256 *h, const bise_checkpoint *c,
                              const bise_tensor *t, bise_error *err)
{
    const uint64_t n = t->bytes < SAMPLE ? t->bytes : SAMPLE;
    bise_sha256_add(h, t->name, strlen(t->name) + 1);
    bise_sha256_add(h, bise_dtype_get(t->dtype)->name,
                    strlen(bise_dtype_get(t->dtype)->name) + 1);
    for (int i = 0; i < t->n_dims; i++)
        bise_sha256_add(h, &t->dims[i], sizeof t->dims[i]);
    if (add_sample(h, c, t, 0, n, err))
        return err->status;
    return add_sample(h, c, t, t->bytes - n, n, err);
}

/* Hashing all weights would take minutes for a large model; both ends of every
 * tensor tell any two models apart that are not made to collide. */
bise_status bise_base_digest(char out[65], const bise_checkpoint *c,
                             bise_error *err)
{
    uint8_t digest[32];
    bise_str config = { 0 };
    bise_sha256 *h = bise_sha256_new();
    bise_status s = h ? BISE_OK : bise_fail_nomem(err);
    if (!s && c->config.json) {
        bise_json_dump(&config, c->config.json, 0, true);
        bise_sha256_add(h, bise_str_get(&config), config.len);
    }
    for (size_t i = 0; i < bise_store_count(c->store) && !s; i++) {
        s = add_tensor(h, c, bise_store_at(c->store, i), err);
        /* also the blocks around the norms, which were read before */
        bise_store_release_all(c->store);
    }
    bise_str_fini(&config);
    if (s) {
        bise_sha256_free(h);
        return s;
    }
    bise_sha256_finish(h, digest);
    bise_hex32(out, digest);
    return BISE_OK;
}

/* The arrays of a checkpoint: values first, then the optimizer's. */
static size_t state_arrays(const bise_trainer *t, bise_tensor *out)
{
    const bise_lora *l = t->o.lora;
    out[0] = (bise_tensor){ .name = "values", .dtype = BISE_DTYPE_F32,
                            .n_dims = 1, .dims = { l->n_values },
                            .data = l->values,
                            .bytes = l->n_values * sizeof(float) };
    return 1 + bise_optimizer_state(t->optimizer, out + 1);
}

/* Set a whole number of the state. */
static void put_int(bise_json *o, const char *key, uint64_t v)
{
    (void)bise_json_set(o, key, bise_json_new_int((int64_t)v));
}

/* Set a real of the state; NaN becomes null and reads back as NaN. */
static void put_real(bise_json *o, const char *key, double v)
{
    (void)bise_json_set(o, key, bise_json_new_real(v));
}

/* trainer_state.json as text. */
static bise_status state_text(bise_str *out, const bise_trainer *t,
                              const bise_fingerprint *f, bise_error *err)
{
    const bise_train_state *s = &t->state;
    bise_json *o = bise_json_new_object(), *c = bise_json_new_object();
    put_int(o, "format", FORMAT_VERSION);
    put_int(o, "step", s->step);
    put_int(o, "updates", bise_optimizer_count(t->optimizer));
    put_int(c, "epoch", s->cursor.epoch);
    put_int(c, "pack", s->cursor.pack);
    (void)bise_json_set(o, "cursor", c);
    put_int(o, "tokens", s->tokens);
    put_int(o, "supervised_tokens", s->supervised);
    put_int(o, "rows", s->rows);
    put_int(o, "skipped_steps", s->skipped);
    put_real(o, "seconds", s->seconds);
    put_real(o, "loss_first", s->loss_first);
    put_real(o, "loss_last", s->loss_last);
    put_real(o, "eval_loss_first", s->eval_first);
    put_real(o, "eval_loss_last", s->eval_last);
    (void)bise_json_set(o, "base", bise_json_new_string(f->base));
    (void)bise_json_set(o, "data", bise_json_new_string(f->data));
    (void)bise_json_set(o, "settings", bise_json_copy(f->settings->values));
    bise_json_dump(out, o, 2, false);
    bise_str_putc(out, '\n');
    bise_json_free(o);
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* All files of a checkpoint into dir. */
static bise_status write_files(const bise_trainer *t,
                               const bise_checkpoint *base,
                               const bise_fingerprint *f, const char *dir,
                               bise_error *err)
{
    bise_tensor arrays[1 + BISE_OPTIMIZER_STATES];
    const size_t n = state_arrays(t, arrays);
    bise_str text = { 0 };
    char *tensors = bise_path_join(dir, "optimizer.safetensors");
    char *state = bise_path_join(dir, "trainer_state.json");
    bise_status s = tensors && state ? BISE_OK : bise_fail_nomem(err);
    if (!s)
        s = bise_lora_save_peft(t->o.lora, base, base->base_name, dir, err);
    if (!s)
        s = bise_st_save(tensors, NULL, arrays, n, err);
    if (!s)
        s = state_text(&text, t, f, err);
    if (!s)
        s = bise_file_write(state, bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    bise_free(tensors);
    bise_free(state);
    return s;
}

/* All files go into STEP.part first: a kill leaves that behind, which no
 * reader takes for a checkpoint. */
bise_status bise_trainstate_save(const bise_trainer *t,
                                 const bise_checkpoint *base,
                                 const bise_fingerprint *f, const char *dir,
                                 bise_error *err)
{
    bise_outdir d;
    if (bise_outdir_open(&d, dir, false, err))
        return err->status;
    if (write_files(t, base, f, d.part_path, err)) {
        bise_outdir_drop(&d);
        return err->status;
    }
    return bise_outdir_commit(&d, err);
}

/* Whole number of a member that must be there. */
static bise_status get_int(uint64_t *out, const bise_json *o, const char *key,
                           bise_error *err)
{
    int64_t v;
    if (!bise_json_integer(bise_json_get(o, key), &v) || v < 0)
        return bise_fail(err, BISE_EFORMAT, "'%s' is not a whole number", key);
    *out = (uint64_t)v;
    return BISE_OK;
}

/* Counters must all be there; losses may be null before the first step. */
static bise_status read_counters(bise_train_state *s, uint64_t *updates,
                                 const bise_json *o, bise_error *err)
{
    const bise_json *c = bise_json_get(o, "cursor");
    if (get_int(&s->step, o, "step", err) ||
        get_int(updates, o, "updates", err) ||
        get_int(&s->cursor.epoch, c, "epoch", err) ||
        get_int(&s->cursor.pack, c, "pack", err) ||
        get_int(&s->tokens, o, "tokens", err) ||
        get_int(&s->supervised, o, "supervised_tokens", err) ||
        get_int(&s->rows, o, "rows", err) ||
        get_int(&s->skipped, o, "skipped_steps", err))
        return err->status;
    s->seconds = bise_json_number(bise_json_get(o, "seconds"), 0);
    s->loss_first = bise_json_number(bise_json_get(o, "loss_first"), NAN);
    s->loss_last = bise_json_number(bise_json_get(o, "loss_last"), NAN);
    s->eval_first = bise_json_number(bise_json_get(o, "eval_loss_first"), NAN);
    s->eval_last = bise_json_number(bise_json_get(o, "eval_loss_last"), NAN);
    return BISE_OK;
}

/* The checkpoint must be of this base, data and settings. */
static bise_status check_origin(const bise_json *o, const bise_fingerprint *f,
                                bise_error *err)
{
    const char *base = bise_json_string(bise_json_get(o, "base"), NULL);
    const char *data = bise_json_string(bise_json_get(o, "data"), NULL);
    uint64_t version = 0;
    if (get_int(&version, o, "format", err))
        return err->status;
    if (version != FORMAT_VERSION)
        return bise_fail(err, BISE_EUNSUPPORTED, "checkpoint format %" PRIu64
                         ", this program reads %d", version, FORMAT_VERSION);
    if (!base || strcmp(base, f->base) != 0)
        return bise_fail(err, BISE_EINVAL, "the checkpoint was made with "
                         "another base model (%.12s, this one is %.12s)",
                         base ? base : "none", f->base);
    if (bise_settings_same(f->settings, bise_json_get(o, "settings"), err))
        return err->status;
    if (!data || strcmp(data, f->data) != 0)
        return bise_fail(err, BISE_EINVAL, "the checkpoint was made with "
                         "other training data (%.12s, this is %.12s)",
                         data ? data : "none", f->data);
    return BISE_OK;
}

/* Copy the arrays of optimizer.safetensors into the live ones. */
static bise_status read_arrays(bise_trainer *t, const char *path,
                               bise_error *err)
{
    bise_tensor live[1 + BISE_OPTIMIZER_STATES];
    const size_t n = state_arrays(t, live);
    bise_st st;
    if (bise_st_open(&st, path, err))
        return err->status;
    bise_status s = BISE_OK;
    /* Check all before the first is copied. */
    for (size_t i = 0; i < n && !s; i++) {
        const bise_tensor *x = bise_st_find(&st, live[i].name);
        if (!x)
            s = bise_fail(err, BISE_EFORMAT, "tensor '%s' is missing",
                          live[i].name);
        else if (x->dtype != live[i].dtype || x->bytes != live[i].bytes)
            s = bise_fail(err, BISE_EFORMAT, "tensor '%s' has %" PRIu64
                          " bytes, expected %" PRIu64, live[i].name, x->bytes,
                          live[i].bytes);
    }
    for (size_t i = 0; i < n && !s; i++) {
        union { const void *from; void *to; } array = { live[i].data };
        memcpy(array.to, bise_st_find(&st, live[i].name)->data, live[i].bytes);
    }
    bise_st_close(&st);
    return s ? bise_error_in(err, path, NULL) : BISE_OK;
}

/* Origin first, then sizes, then the copy: a refused checkpoint leaves the
 * trainer as it was. */
bise_status bise_trainstate_load(bise_trainer *t, const bise_fingerprint *f,
                                 const char *dir, bise_error *err)
{
    bise_train_state state = { 0 };
    uint64_t updates = 0;
    bise_json *o = NULL;
    char *tensors = bise_path_join(dir, "optimizer.safetensors");
    char *path = bise_path_join(dir, "trainer_state.json");
    bise_status s = tensors && path ? BISE_OK : bise_fail_nomem(err);
    if (!s)
        s = bise_json_load(&o, path, err);
    if (!s)
        s = check_origin(o, f, err);
    if (!s)
        s = read_counters(&state, &updates, o, err);
    if (!s)
        s = read_arrays(t, tensors, err);
    if (!s) {
        t->state = state;
        bise_optimizer_set_count(t->optimizer, updates);
    } else {
        s = bise_error_in(err, path, NULL);
    }
    bise_json_free(o);
    bise_free(tensors);
    bise_free(path);
    return s;
}

#define PART ".part" /* of core/file.h: no name of a whole checkpoint */

/* "120" -> true and 120; anything else is not a checkpoint. With the suffix
 * PART the same of one in the making, or on its way out. */
static bool step_of(const char *name, const char *suffix, uint64_t *step)
{
    char *end;
    if (*name < '0' || *name > '9')
        return false;
    *step = strtoull(name, &end, 10);
    return strcmp(end, suffix) == 0;
}

/* Ascending order of steps for qsort. */
static int by_step(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Steps of all whole checkpoints, ascending; *steps is bise_free'd. */
static bise_status list_steps(uint64_t **steps, size_t *n, const char *dir,
                              bise_error *err)
{
    char **names = NULL;
    size_t count = 0, at = 0;
    *n = 0;
    *steps = NULL;
    if (!bise_is_dir(dir))
        return BISE_OK;
    if (bise_dir_list(&names, &count, dir, err))
        return err->status;
    uint64_t *list = bise_alloc_array(count + 1, sizeof *list);
    for (size_t i = 0; list && i < count; i++)
        at += step_of(names[i], "", &list[at]);
    bise_free(names);
    if (!list)
        return bise_fail_nomem(err);
    qsort(list, at, sizeof *list, by_step);
    *steps = list;
    *n = at;
    return BISE_OK;
}

/* Path of a checkpoint (bise_free), NULL when out of memory. */
static char *step_path(const char *dir, uint64_t step, const char *end)
{
    char name[32];
    snprintf(name, sizeof name, "%" PRIu64 "%s", step, end);
    return bise_path_join(dir, name);
}

/* Only folders whose whole name is a number count: STEP.part and anything the
 * user put there do not. */
bise_status bise_trainstate_latest(char **path, uint64_t *step,
                                   const char *dir, bise_error *err)
{
    uint64_t *steps;
    size_t n;
    *path = NULL;
    if (list_steps(&steps, &n, dir, err))
        return err->status;
    if (n) {
        *step = steps[n - 1];
        *path = step_path(dir, *step, "");
        if (!*path) {
            bise_free(steps);
            return bise_fail_nomem(err);
        }
    }
    bise_free(steps);
    return BISE_OK;
}

/* What a kill left behind. Not called while a checkpoint is being made. */
static bise_status remove_parts(const char *dir, bise_error *err)
{
    char **names = NULL;
    size_t n = 0;
    if (bise_dir_list(&names, &n, dir, err))
        return err->status;
    for (size_t i = 0; i < n; i++) {
        uint64_t step;
        const bool part = step_of(names[i], PART, &step);
        char *path = part ? bise_path_join(dir, names[i]) : NULL;
        if (path)
            bise_remove_tree(path);
        bise_free(path);
    }
    bise_free(names);
    return BISE_OK;
}

/* The oldest go first, and lose their names before their files, so a kill in
 * here leaves whole ones only, and at least as many as asked for. */
bise_status bise_trainstate_prune(const char *dir, size_t keep,
                                  bise_error *err)
{
    uint64_t *steps;
    size_t n;
    if (list_steps(&steps, &n, dir, err))
        return err->status;
    bise_status s = BISE_OK;
    for (size_t i = 0; i + keep < n && s == BISE_OK; i++) {
        char *path = step_path(dir, steps[i], "");
        char *part = step_path(dir, steps[i], PART);
        if (!path || !part)
            s = bise_fail_nomem(err);
        else if (rename(path, part) != 0)
            s = bise_fail_errno(err, path, "cannot rename");
        bise_free(path);
        bise_free(part);
    }
    bise_free(steps);
    if (s == BISE_OK && bise_is_dir(dir))
        s = remove_parts(dir, err);
    return s;
}
