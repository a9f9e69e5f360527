/* adapter_check.c - holds an adapter against the rules of adapter_rules.def:
 * which tools load it as it is, which do not, and what to do about it. Called
 * by bise adapter check.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "convert/adapter.h"
#include "convert/convert.h"
#include "core/mem.h"

typedef enum {
    FORMAT, DORA, SAVED, PATTERNS, RSLORA, HEAD, EXPERTS, PREFIX,
    RANK_ABOVE, RANK_BELOW, RANK_OVER_DEFAULT, OLLAMA_ENGINE, LATENT, ALWAYS
} condition;

enum { PEFT = BISE_ADAPTER_PEFT, GGUF = BISE_ADAPTER_GGUF,
       MLX = BISE_ADAPTER_MLX };

static const struct rule {
    const char *target;
    bool blocks;
    condition condition;
    int limit;
    const char *text, *source;
} rules[] = {
#define BISE_ADAPTER_RULE(target, blocks, cond, limit, text, source) \
    { target, blocks, cond, limit, text, source },
#include "convert/adapter_rules.def"
#undef BISE_ADAPTER_RULE
};

#define N_RULES (sizeof rules / sizeof *rules)

/* Architectures that Ollama does not hand to llama.cpp. */
static bool in_ollama_engine(const bise_checkpoint *base)
{
    const char *arch = base->names == BISE_NAMES_GGUF
                           ? base->config.architecture
                           : bise_convert_gguf_arch(base);
    return strcmp(arch, "mistral3") == 0 || strcmp(arch, "deepseek2") == 0;
}

/* Modules that GGUF holds in another form (kv_b of latent attention). */
static bool has_latent(const bise_lora *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->modules[i].role.kind == BISE_ROLE_KV_B)
            return true;
    return false;
}

/* The order of the report; adapter_rules.def has rows for each. */
const char *bise_adapter_targets(void)
{
    return "vllm|llama.cpp|ollama|transformers|mlx|fireworks|together";
}

/* Any module on an expert, or on the head? */
static bool has_kind(const bise_lora *l, bool experts)
{
    for (size_t i = 0; i < l->n; i++)
        if (experts ? l->modules[i].role.expert >= 0
                    : l->modules[i].role.kind == BISE_ROLE_HEAD)
            return true;
    return false;
}

/* Would PEFT write rank_pattern or alpha_pattern? */
static bool has_patterns(const bise_lora *l)
{
    for (size_t i = 1; i < l->n; i++)
        if (l->modules[i].r != l->modules[0].r ||
            l->modules[i].alpha != l->modules[0].alpha)
            return true;
    return false;
}

/* The largest or the smallest rank; 0 without modules. */
static int rank_of(const bise_lora *l, bool largest)
{
    int r = l->n ? l->modules[0].r : 0;
    for (size_t i = 1; i < l->n; i++)
        if (largest ? l->modules[i].r > r : l->modules[i].r < r)
            r = l->modules[i].r;
    return r;
}

/* The reader noted which format the file was. */
static bool is_format(const bise_lora *l, int format)
{
    static const char *const names[] = {
        [BISE_ADAPTER_PEFT] = "peft", [BISE_ADAPTER_GGUF] = "gguf",
        [BISE_ADAPTER_NATIVE] = "native", [BISE_ADAPTER_MLX] = "mlx" };
    return strcmp(l->format, names[format]) == 0;
}

/* Does the rule apply? *found becomes the number for its text. */
static bool fires(const struct rule *r, const bise_lora *l,
                  const bise_checkpoint *base, int *found)
{
    *found = r->limit;
    switch (r->condition) {
    case FORMAT: return !is_format(l, r->limit);
    case DORA: return l->dora;
    case SAVED: return l->n_saved > 0;
    case PATTERNS: return has_patterns(l);
    case RSLORA: return l->rslora;
    case HEAD: return has_kind(l, false);
    case EXPERTS: return has_kind(l, true);
    case PREFIX:    /* only PEFT names tell of a class, a GGUF base of none */
        return base && base->names != BISE_NAMES_GGUF && is_format(l, PEFT) &&
               l->wrapper != base->config.wrapper;
    case RANK_ABOVE: return rank_of(l, true) > r->limit;
    case RANK_BELOW: return rank_of(l, false) < r->limit;
    case RANK_OVER_DEFAULT:
        *found = bise_lora_vllm_rank(rank_of(l, true));
        return rank_of(l, true) > r->limit && rank_of(l, true) <= 512;
    case OLLAMA_ENGINE: return base && in_ollama_engine(base);
    case LATENT: return has_latent(l);
    case ALWAYS: return true;
    }
    return false;
}

/* The rule's text, its %d replaced by the number. */
static void write_text(bise_adapter_finding *f, const char *text, int number)
{
    const char *at = strstr(text, "%d");
    if (at)
        snprintf(f->text, sizeof f->text, "%.*s%d%s", (int)(at - text), text,
                 number, at + 2);
    else
        snprintf(f->text, sizeof f->text, "%s", text);
}

/* A target without rules would look as if everything were fine. */
static bise_status check_target(const char *target, bise_error *err)
{
    for (size_t i = 0; i < N_RULES; i++)
        if (!target || strcmp(rules[i].target, target) == 0)
            return BISE_OK;
    err->status = bise_fail(err, BISE_EINVAL, "no rules for target '%s'",
                            target);
    return bise_error_hint(err, "known are %s", bise_adapter_targets());
}

/* Walk the table once; a rule that fires becomes a finding. */
bise_status bise_adapter_check(bise_adapter_report *r, const bise_lora *l,
                               const bise_checkpoint *base, const char *target,
                               bise_error *err)
{
    const bise_status s = check_target(target, err);
    for (size_t i = 0; s == BISE_OK && i < N_RULES; i++) {
        int found;
        if ((target && strcmp(rules[i].target, target) != 0) ||
            !fires(&rules[i], l, base, &found))
            continue;
        void *list = r->list;
        if (bise_grow(&list, &r->cap, r->n + 1, sizeof *r->list))
            return bise_fail_nomem(err);
        r->list = list;
        bise_adapter_finding *f = &r->list[r->n++];
        f->target = rules[i].target;
        f->blocks = rules[i].blocks;
        f->source = rules[i].source;
        write_text(f, rules[i].text, found);
    }
    return s;
}

/* The texts are inside the findings. */
void bise_adapter_report_fini(bise_adapter_report *r)
{
    bise_free(r->list);
    *r = (bise_adapter_report){ 0 };
}
