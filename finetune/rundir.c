/* rundir.c - layout of an output directory (cli.md 3). An earlier run is never
 * overwritten by chance; with force only files that a run makes are removed.
 * Called by train_loop.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"

/* Everything a run writes, and so everything that --force may remove. A new
 * product of a run belongs into this list. */
static const char *const products[] = {
    "adapter_model.safetensors", "adapter_config.json", "README.md",
    "report.html", "loss.svg", "log.jsonl", "run.yaml", "checkpoints",
    ".cache",
};

/* Only what a run makes: a file the user put there stays. */
static bise_status remove_products(const char *dir, bise_error *err)
{
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        char *path = bise_path_join(dir, products[i]);
        if (!path)
            return bise_fail_nomem(err);
        bise_remove_tree(path);
        bise_free(path);
    }
    return BISE_OK;
}

/* Refuse, keep or clear what is there. */
static bise_status claim(const char *dir, bool resume, bool force,
                         bise_error *err)
{
    char **names = NULL;
    size_t n = 0;
    if (!bise_file_exists(dir))
        return BISE_OK;
    if (!bise_is_dir(dir))
        return bise_fail(err, BISE_EINVAL, "output '%s' is not a directory",
                         dir);
    if (bise_dir_list(&names, &n, dir, err))
        return err->status;
    bise_free(names);
    if (!n || resume)
        return BISE_OK;
    if (force)
        return remove_products(dir, err);
    return bise_fail(err, BISE_EIO, "output '%s' exists and is not empty", dir)
               ? bise_error_hint(err, "--resume goes on with it, --force "
                                      "starts again")
               : BISE_OK;
}

/* Take the lock of the checkpoints folder, or say who has it. File systems
 * without locks (some network ones) are used without. */
static bise_status take_lock(bise_rundir *r, bise_error *err)
{
    r->lock = open(r->checkpoints, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock < 0)
        return bise_fail_errno(err, r->checkpoints, "cannot open");
    if (flock(r->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return BISE_OK;
    return bise_fail(err, BISE_EIO, "another run is writing to '%s'", r->dir);
}

/* The checkpoints folder is made at once: that the disk can be written shows
 * before the first step, not at the first save. */
bise_status bise_rundir_open(bise_rundir *r, const char *dir, bool resume,
                             bool force, bise_error *err)
{
    memset(r, 0, sizeof *r);
    r->lock = -1;
    if (claim(dir, resume, force, err))
        return err->status;
    r->dir = bise_strdup(dir);
    r->settings = bise_path_join(dir, "run.yaml");
    r->log = bise_path_join(dir, "log.jsonl");
    r->checkpoints = bise_path_join(dir, "checkpoints");
    r->card = bise_path_join(dir, "README.md");
    bise_status s = BISE_OK;
    if (!r->dir || !r->settings || !r->log || !r->checkpoints || !r->card)
        s = bise_fail_nomem(err);
    if (!s)
        s = bise_mkdir(r->checkpoints, err);
    if (!s)
        s = take_lock(r, err);
    if (s)
        bise_rundir_close(r);
    return s;
}

/* Paths only; nothing on disk changes. */
void bise_rundir_close(bise_rundir *r)
{
    bise_free(r->dir);
    bise_free(r->settings);
    bise_free(r->log);
    bise_free(r->checkpoints);
    bise_free(r->card);
    if (r->dir && r->lock >= 0)
        close(r->lock);
    memset(r, 0, sizeof *r);
}

/* Plain numbers as names: the newest is found without an index file. */
char *bise_rundir_step(const bise_rundir *r, uint64_t step)
{
    char name[32];
    snprintf(name, sizeof name, "%" PRIu64, step);
    return bise_path_join(r->checkpoints, name);
}

/* Front matter of the card. A base name that is a Hub id stands as it is. */
static void put_front_matter(bise_str *out, const bise_finetune *f)
{
    const bise_checkpoint *c = &f->base;
    bise_str_puts(out, "---\nbase_model: ");
    bise_str_put_json(out, c->base_name, strlen(c->base_name));
    bise_str_puts(out, "\nlibrary_name: peft\n");
    if (c->licence[0]) {
        bise_str_puts(out, "license: ");
        bise_str_put_json(out, c->licence, strlen(c->licence));
        bise_str_putc(out, '\n');
    }
    bise_str_puts(out, "pipeline_tag: text-generation\ntags:\n- lora\n"
                       "- peft\n- bise\n---\n\n");
}

/* One line a file of training data. */
static void put_data(bise_str *out, const char *what, const bise_json *files,
                     const bise_dataset *d)
{
    const bise_dataset_stats *st = bise_dataset_stats_of(d);
    bise_str_printf(out, "- %s:", what);
    for (size_t i = 0; i < bise_json_size(files); i++)
        bise_str_printf(out, " `%s`", bise_path_base(
            bise_json_string(bise_json_at(files, i), NULL)));
    bise_str_printf(out, " (%" PRIu64 " samples, %" PRIu64 " tokens, %" PRIu64
                    " of them trained; sha256 of the prepared set %.16s)\n",
                    st->samples, st->tokens, st->supervised,
                    bise_dataset_digest(d));
}

/* First and last losses as a table of the card. */
static void put_losses(bise_str *out, const bise_train_state *s)
{
    bise_str_puts(out, "| | first | last |\n|---|---|---|\n");
    bise_str_printf(out, "| training loss | %.4f | %.4f |\n", s->loss_first,
                    s->loss_last);
    if (isfinite(s->eval_last))
        bise_str_printf(out, "| evaluation loss | %.4f | %.4f |\n",
                        s->eval_first, s->eval_last);
}

/* Markdown in the order of the Hub's cards: what it is, how well, from which
 * data, under which terms, how to use it. */
void bise_rundir_card(bise_str *out, const bise_finetune *f,
                      const bise_train_state *state)
{
    const bise_settings *s = f->s;
    const bise_checkpoint *c = &f->base;
    put_front_matter(out, f);
    bise_str_printf(out, "# LoRA adapter for %s\n\n", c->base_name);
    bise_str_printf(out, "Trained on a CPU with bise %s: rank %lld, alpha %g, "
                    "targets %s, %" PRIu64 " steps, %" PRIu64 " tokens.\n\n",
                    PACKAGE_VERSION, (long long)s->lora_r, s->lora_alpha,
                    s->target, state->step, state->tokens);
    if (bise_finetune_base_type(f) != BISE_DTYPE_NONE)
        bise_str_printf(out, "The frozen layers were quantized to %s while "
                        "training (QLoRA).\n\n",
                        bise_dtype_get(bise_finetune_base_type(f))->name);
    put_losses(out, state);
    bise_str_puts(out, "\n## Data\n\n");
    put_data(out, "training", s->data, f->train);
    if (f->eval)
        put_data(out, "evaluation", s->eval_data, f->eval);
    bise_str_puts(out, "\n## Licence\n\n");
    if (c->licence[0])
        bise_str_printf(out, "The base model is under %s; the adapter follows "
                        "it. See the data's own terms.\n", c->licence);
    else
        bise_str_puts(out, "The licence of the base model is not known to "
                           "bise: state it before you publish this.\n");
    /* How to use it, with bise and with PEFT. */
    bise_str_printf(out, "\n## Use\n\n```\nbise generate MODEL --adapter THIS "
                    "-p TEXT\nbise merge MODEL --adapter THIS -o OUT\n```\n\n"
                    "```python\nfrom peft import PeftModel\n"
                    "model = PeftModel.from_pretrained(base, \"THIS\")\n```\n"
                    "\nAll settings are in `run.yaml`, every step in "
                    "`log.jsonl`, curves in `report.html`.\n");
}
