/* cmd_inspect.c - bise inspect: what a model, adapter, importance matrix,
 * archive or data file is, from its headers only. Text in two columns, tensors
 * as a table with --tensors; everything under --json.
 * Nothing is computed and no weight is read: the answer for a model of many
 * GiB takes as long as for a small one. What cannot be understood is said and
 * passed over, because inspect is where users go when something is wrong with
 * a file.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "formats/archive.h"
#include "formats/crypto.h"
#include "formats/gguf.h"
#include "formats/shape.h"
#include "formats/store.h"
#include "model/checkpoint.h"
#include "model/lora.h"
#include "quantize/imatrix.h"
#include "text/schema.h"
#include "text/chat.h"
#include "text/template.h"
#include "text/tokenizer.h"

static const bise_option options[] = {
    { .name = "tensors", .type = BISE_OPT_FLAG,
      .help = "list every tensor with type, shape and place" },
    { .name = NULL }
};

/* "name            value" and the same in the JSON result. */
static void fact(bise_context *ctx, const char *key, const char *fmt, ...)
    BISE_PRINTF(3, 4);

/* Print one aligned line. The key is that of the JSON result as well, so
 * that people and scripts use the same words; the value is only shown here. */
static void fact(bise_context *ctx, const char *key, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bise_print(ctx, "%-14s %s\n", key, text);
}

/* A fact that is text: shown, and set under the same key in the result. */
static void fact_text(bise_context *ctx, const char *key, const char *text)
{
    fact(ctx, key, "%s", text);
    bise_result_set(ctx, key, bise_json_new_string(text));
}

/* A fact that is a whole number: shown, and set as a number. */
static void fact_int(bise_context *ctx, const char *key, int64_t v)
{
    fact(ctx, key, "%" PRId64, v);
    bise_result_set(ctx, key, bise_json_new_int(v));
}

/* 6.95 M, 3.41 B */
static char *count_text(char out[32], uint64_t n)
{
    static const char unit[] = " KMBT";
    double v = (double)n;
    int u = 0;
    while (v >= 999.5 && u < 4) {
        v /= 1000;
        u++;
    }
    if (u)
        snprintf(out, 32, "%.3g %c", v, unit[u]);
    else
        snprintf(out, 32, "%" PRIu64, n);
    return out;
}

/* ------------------------------------------------------------- tensors */
static bise_json *tensor_json(const bise_store *s, const bise_tensor *t)
{
    bise_json *v = bise_json_new_object(), *dims = bise_json_new_array();
    for (int i = 0; i < t->n_dims; i++)
        bise_json_append(dims, bise_json_new_int((int64_t)t->dims[i]));
    bise_json_set(v, "name", bise_json_new_string(t->name));
    bise_json_set(v, "dtype",
                  bise_json_new_string(bise_dtype_get(t->dtype)->name));
    bise_json_set(v, "shape", dims);
    bise_json_set(v, "bytes", bise_json_new_int((int64_t)t->bytes));
    bise_json_set(v, "file",
                  bise_json_new_string(bise_store_tensor_file(s, t)));
    bise_json_set(v, "offset", bise_json_new_int((int64_t)t->offset));
    return v;
}

/* Every tensor into the result, and into a table when --tensors is given.
 * The name stands last and is never cut, so that the columns before it stay
 * aligned and a script can take the last field. */
static void show_tensors(bise_context *ctx, const bise_store *s)
{
    static const char *const heads[] = { "type", ">shape", ">bytes", ">offset",
                                         "name" };
    bise_table table;
    bise_str out = { 0 }, shape = { 0 };
    bise_json *list = bise_json_new_array();
    bise_table_init(&table, 5, heads);
    for (size_t i = 0; i < bise_store_count(s); i++) {
        const bise_tensor *t = bise_store_at(s, i);
        bise_json_append(list, tensor_json(s, t));
        bise_str_clear(&shape);
        bise_shape_print(&shape, t);
        bise_table_add(&table, "%s", bise_dtype_get(t->dtype)->name);
        bise_table_add(&table, "%s", bise_str_get(&shape));
        bise_table_add(&table, "%" PRIu64, t->bytes);
        bise_table_add(&table, "%" PRIu64, t->offset);
        bise_table_add(&table, "%s", t->name);
    }
    bise_result_set(ctx, "tensors", list);
    if (bise_opt_given(ctx->args, "tensors")) {
        bise_table_put(&out, &table, 0);        /* names are never cut */
        bise_print(ctx, "\n%s", bise_str_get(&out));
    }
    bise_table_fini(&table);
    bise_str_fini(&out);
    bise_str_fini(&shape);
}

/* Weights and bytes of each type in use. */
static void show_types(bise_context *ctx, const bise_store *s)
{
    static const char *const heads[] = { "type", ">tensors", ">weights",
                                         ">bytes", ">bits/weight" };
    uint64_t n[BISE_DTYPE_COUNT] = { 0 }, w[BISE_DTYPE_COUNT] = { 0 };
    uint64_t bytes[BISE_DTYPE_COUNT] = { 0 };
    bise_json *types = bise_json_new_object();
    bise_table table;
    bise_str out = { 0 };
    for (size_t i = 0; i < bise_store_count(s); i++) {
        const bise_tensor *t = bise_store_at(s, i);
        n[t->dtype]++;
        w[t->dtype] += bise_tensor_count(t);
        bytes[t->dtype] += t->bytes;
    }
    bise_table_init(&table, 5, heads);
    for (int d = 0; d < BISE_DTYPE_COUNT; d++) {
        if (!n[d])
            continue;
        const char *name = bise_dtype_get((bise_dtype)d)->name;
        bise_table_add(&table, "%s", name);
        bise_table_add(&table, "%" PRIu64, n[d]);
        bise_table_add(&table, "%" PRIu64, w[d]);
        bise_table_add(&table, "%" PRIu64, bytes[d]);
        bise_table_add(&table, "%.2f",
                       w[d] ? 8.0 * (double)bytes[d] / (double)w[d] : 0);
        bise_json_set(types, name, bise_json_new_int((int64_t)w[d]));
    }
    bise_table_put(&out, &table, 80);
    bise_print(ctx, "\n%s", bise_str_get(&out));
    bise_result_set(ctx, "types", types);
    bise_table_fini(&table);
    bise_str_fini(&out);
}

/* Weights, bytes and bits for each weight of the whole. */
static void show_size(bise_context *ctx, const bise_store *s)
{
    char a[32], b[32];
    uint64_t n = 0, bytes = 0;
    for (size_t i = 0; i < bise_store_count(s); i++) {
        n += bise_tensor_count(bise_store_at(s, i));
        bytes += bise_store_at(s, i)->bytes;
    }
    fact(ctx, "size", "%s in %zu tensors, %s weights, %.2f bits each",
         bise_format_bytes(a, bytes), bise_store_count(s), count_text(b, n),
         n ? 8.0 * (double)bytes / (double)n : 0);
    bise_result_set(ctx, "bytes", bise_json_new_int((int64_t)bytes));
    bise_result_set(ctx, "weights", bise_json_new_int((int64_t)n));
}

/* ------------------------------------------------------------- models */
/* Set a member of the config object when the value says something. */
static void put(bise_json *v, const char *key, double x)
{
    if (x == 0 || !isfinite(x))
        return;
    bise_json_set(v, key, x == floor(x) && fabs(x) < 9e15 ?
                  bise_json_new_int((int64_t)x) : bise_json_new_real(x));
}

/* The resolved configuration, not the file's own: what bise computes with,
 * under the names of Hugging Face whatever layout it was read from. */
static bise_json *config_json(const bise_config *c)
{
    bise_json *v = bise_json_new_object();
    bise_json_set(v, "architecture", bise_json_new_string(c->architecture));
    put(v, "hidden_size", c->C);
    put(v, "intermediate_size", c->F);
    put(v, "num_hidden_layers", c->L);
    put(v, "num_attention_heads", c->H);
    put(v, "num_key_value_heads", c->K);
    put(v, "head_dim", c->D);
    put(v, "vocab_size", c->V);
    put(v, "num_experts", c->E);
    put(v, "experts_per_token", c->top_k);
    if (c->kv_lora) {
        put(v, "q_lora_rank", c->q_lora);
        put(v, "kv_lora_rank", c->kv_lora);
        put(v, "qk_nope_head_dim", c->qk_nope);
        put(v, "qk_rope_head_dim", c->qk_rope);
        put(v, "v_head_dim", c->v_dim);
        put(v, "n_shared_experts", c->shared_experts);
        put(v, "first_k_dense_replace", c->dense_layers);
    }
    put(v, "rms_norm_eps", c->eps);
    put(v, "rope_theta", c->rope.theta);
    put(v, "rope_factor", c->rope.yarn ? c->rope.factor : 0);
    put(v, "sliding_window", c->window);
    put(v, "max_position_embeddings", (double)c->max_position);
    bise_json_set(v, "tie_word_embeddings", bise_json_new_bool(c->tied));
    if (c->quant_method[0])
        bise_json_set(v, "quant_method", bise_json_new_string(c->quant_method));
    return v;
}

/* The configuration in sentences of one line. Experts replace the plain
 * feed-forward size, and YaRN its own line of rope. */
static void show_config(bise_context *ctx, const bise_config *c)
{
    fact(ctx, "architecture", "%s, %" PRId32 " layers, hidden %" PRId32
         ", ffn %" PRId32, c->architecture, c->L, c->C,
         c->E && c->F_expert ? c->F_expert : c->F);
    if (c->kv_lora)
        fact(ctx, "attention", "latent of %" PRId32 ", %" PRId32 " heads of %"
             PRId32 " + %" PRId32 " rotated, values of %" PRId32, c->kv_lora,
             c->H, c->qk_nope, c->qk_rope, c->v_dim);
    else
        fact(ctx, "attention", "%" PRId32 " query and %" PRId32
             " key heads of %" PRId32, c->H, c->K, c->D);
    if (c->E && c->shared_experts)
        fact(ctx, "experts", "%" PRId32 ", %" PRId32 " for each token, %"
             PRId32 " shared", c->E, c->top_k, c->shared_experts);
    else if (c->E)
        fact(ctx, "experts", "%" PRId32 ", %" PRId32 " for each token", c->E,
             c->top_k);
    if (c->rope.yarn)
        fact(ctx, "rope", "theta %g, YaRN factor %g over %g positions",
             c->rope.theta, c->rope.factor, c->rope.original_max);
    else
        fact(ctx, "rope", "theta %g", c->rope.theta);
    fact(ctx, "context", "%" PRId64 " positions%s", c->max_position,
         c->window ? ", sliding window" : "");
    fact(ctx, "vocabulary", "%" PRId32 "%s", c->V,
         c->tied ? ", head tied to the embedding" : "");
    if (c->quant_method[0])
        fact(ctx, "quantization", "%s", c->quant_method);
    bise_result_set(ctx, "config", config_json(c));
}

/* Does the template say what conversations are encoded to? */
static void show_template(bise_context *ctx, const bise_chat *chat,
                          const char *source, const bise_str *text,
                          bise_json *out)
{
    bise_template_signs signs;
    char name[32];
    bise_template_read(&signs, bise_str_get(text), text->len);
    bise_template_name(name, &signs);
    const bool fits = bise_template_fits(&signs, chat);
    fact(ctx, "chat format", "%s, %s %s%s", bise_chat_name(chat), source,
         fits ? "agrees" : "is ", fits ? "" : name);
    if (!fits)
        bise_progress_say(ctx->progress, "warning: conversations are encoded "
                          "as %s, but the template in %s is %s: engines that "
                          "run it will see another text", bise_chat_name(chat),
                          source, name);
    if (signs.default_system)
        fact(ctx, "", "the template adds a system prompt where there is none");
    bise_json_set(out, "template", bise_json_new_string(source));
    bise_json_set(out, "template_format", bise_json_new_string(name));
    bise_json_set(out, "agrees", bise_json_new_bool(fits));
    bise_json_set(out, "default_system",
                  bise_json_new_bool(signs.default_system));
}

/* The format of conversations, beside the template that other engines run. */
static void show_chat(bise_context *ctx, bise_store *s,
                      const bise_tokenizer *t)
{
    const bise_chat *chat = NULL;
    const char *source = NULL;
    bise_str text = { 0 };
    bise_error err;
    bise_error_init(&err);
    if (bise_chat_for(&chat, t, NULL, &err) != BISE_OK) {
        fact(ctx, "chat format", "none: %s", err.text);
        return;
    }
    bise_json *v = bise_json_new_object();
    bise_json_set(v, "format", bise_json_new_string(bise_chat_name(chat)));
    if (bise_template_text(&text, &source, s, &err) != BISE_OK)
        fact(ctx, "chat format", "%s, template: %s", bise_chat_name(chat),
             err.text);
    else if (source)
        show_template(ctx, chat, source, &text, v);
    else
        fact(ctx, "chat format", "%s, no template", bise_chat_name(chat));
    bise_result_set(ctx, "chat", v);
    bise_str_fini(&text);
}

/* Kind and source of the tokenizer; files that disagree are told. A model
 * without one is still a model (it can be converted), so that a failure here
 * is only said. */
static void show_tokenizer(bise_context *ctx, bise_store *s)
{
    static const char *const kinds[] = { "tekken (rank BPE)",
                                         "byte-level BPE", "SentencePiece" };
    bise_tokenizer *t = NULL;
    bise_error err;
    bise_error_init(&err);
    if (bise_tokenizer_open(&t, s, ctx->progress, &err) != BISE_OK) {
        if (strstr(err.text, "has no tokenizer"))
            fact(ctx, "tokenizer", "none");
        else
            fact(ctx, "tokenizer", "not readable: %s", err.text);
        return;
    }
    const int kind = (int)bise_tokenizer_kind_of(t);
    bise_json *v = bise_json_new_object();
    fact(ctx, "tokenizer", "%s of %s, %" PRId32 " ids", kinds[kind],
         bise_tokenizer_source(t), bise_tokenizer_vocab(t));
    bise_json_set(v, "kind", bise_json_new_string(kinds[kind]));
    bise_json_set(v, "source", bise_json_new_string(bise_tokenizer_source(t)));
    bise_json_set(v, "ids", bise_json_new_int(bise_tokenizer_vocab(t)));
    bise_result_set(ctx, "tokenizer", v);
    show_chat(ctx, s, t);
    bise_tokenizer_free(t);
}

/* Quantization of a GGUF: the type named by its header, and its imatrix. */
static void show_quantization(bise_context *ctx, const bise_store *s)
{
    const bise_gguf_meta *m = bise_store_gguf(s);
    const int64_t ftype = bise_gguf_int(m, "general.file_type", -1);
    bise_arena a = { 0 };
    const char *file = bise_gguf_strdup(m, "quantize.imatrix.file", &a);
    const char *by = bise_gguf_strdup(m, "general.quantized_by", &a);
    if (ftype >= 0) {
        fact(ctx, "file type", "%" PRId64 "%s%s", ftype,
             file ? ", with imatrix " : "", file ? file : "");
        bise_result_set(ctx, "file_type", bise_json_new_int(ftype));
    }
    if (by)
        fact_text(ctx, "quantized_by", by);
    bise_arena_fini(&a);
}

/* A model, or the tensors of something else that bise can open. */
static bise_status show_model(bise_context *ctx, const char *path,
                              bise_store *s)
{
    bise_checkpoint c;
    bise_error err;
    char n[32];
    bise_error_init(&err);
    const bool known = bise_checkpoint_open(&c, path, NULL, &err) == BISE_OK;
    if (known) {
        fact_text(ctx, "name", c.base_name);
        fact_text(ctx, "family", bise_family_name(c.config.family));
        const uint64_t params = bise_config_parameters(&c.config);
        fact(ctx, "parameters", "%s (%" PRIu64 ")", count_text(n, params),
             params);
        bise_result_set(ctx, "parameters",
                        bise_json_new_int((int64_t)params));
        show_config(ctx, &c.config);
        fact(ctx, "licence", "%s", c.licence[0] ? c.licence : "unknown");
        bise_result_set(ctx, "licence", c.licence[0] ?
                        bise_json_new_string(c.licence) :
                        bise_json_new_null());
        show_tokenizer(ctx, c.store);
        bise_checkpoint_close(&c);
    } else if (err.status == BISE_ENOMEM)
        return err.status;
    else
        bise_progress_say(ctx->progress, "not a model that bise computes with: "
                          "%s%s%s", err.text, err.tensor[0] ? ": " : "",
                          err.tensor);
    show_quantization(ctx, s);
    return BISE_OK;
}

/* ------------------------------------------------------------- adapters */
static void show_adapter(bise_context *ctx, const char *path)
{
    bise_lora l = { 0 };
    bise_error err;
    bise_str names = { 0 };
    bool seen[BISE_ROLE_COUNT] = { false };
    bise_json *targets = bise_json_new_array();
    bise_error_init(&err);
    if (bise_lora_load_for(&l, path, NULL, &err) != BISE_OK) {
        bise_progress_say(ctx->progress, "adapter not understood: %s",
                          err.text);
        bise_json_free(targets);
        return;
    }
    int32_t low = INT32_MAX, high = 0;
    for (size_t i = 0; i < l.n; i++) {
        const bise_lora_module *m = &l.modules[i];
        const char *name = bise_role_module(m->role.kind);
        low = m->r < low ? m->r : low;
        high = m->r > high ? m->r : high;
        if (seen[m->role.kind] || !name)
            continue;
        seen[m->role.kind] = true;
        bise_str_printf(&names, "%s%s", names.len ? " " : "", name);
        bise_json_append(targets, bise_json_new_string(name));
    }
    fact(ctx, "adapter", "%s, %zu modules%s%s", l.format ? l.format : "lora",
         l.n, l.rslora ? ", rsLoRA" : "", l.dora ? ", DoRA" : "");
    if (l.n)
        fact(ctx, "rank", low == high ? "%" PRId32 ", alpha %g" :
             "%" PRId32 " and others, alpha %g", low, l.modules[0].alpha);
    fact(ctx, "targets", "%s", bise_str_get(&names));
    if (l.base_name[0])
        fact_text(ctx, "base", l.base_name);
    bise_result_set(ctx, "rank", bise_json_new_int(l.n ? high : 0));
    bise_result_set(ctx, "alpha", bise_json_new_real(
                        l.n ? l.modules[0].alpha : 0));
    bise_result_set(ctx, "targets", targets);
    bise_str_fini(&names);
    bise_lora_fini(&l);
}

/* Is the store an adapter, an importance matrix, or (likely) a model? */
static const char *kind_of(bise_store *s)
{
    size_t n = 0;
    const char *type = bise_gguf_str(bise_store_gguf(s), "general.type", &n);
    if (type && n == 7 && memcmp(type, "adapter", n) == 0)
        return "adapter";
    if (type && n == 7 && memcmp(type, "imatrix", n) == 0)
        return "imatrix";
    if (type && n == 6 && memcmp(type, "mmproj", n) == 0)
        return "projector";
    if (bise_store_has_file(s, "adapter_config.json") ||
        (bise_store_count(s) &&
         strstr(bise_store_at(s, 0)->name, "lora_")))
        return "adapter";
    return bise_store_gguf(s) || bise_store_has_file(s, "config.json") ||
           bise_store_has_file(s, "params.json") ? "model" : "tensors";
}

/* ------------------------------------------------------------- others */
static bise_status show_imatrix(bise_context *ctx, const char *path,
                                bise_error *err)
{
    bise_imatrix m = { 0 };
    const bise_status s = bise_imatrix_load(&m, path, err);
    if (s != BISE_OK)
        return s;
    fact_int(ctx, "entries", (int64_t)m.n);
    fact_int(ctx, "chunks", m.chunks);
    if (m.chunk_size)
        fact_int(ctx, "chunk_size", m.chunk_size);
    for (size_t i = 0; i < m.n_datasets; i++)
        fact(ctx, "data", "%s", m.datasets[i]);
    bise_imatrix_fini(&m);
    return BISE_OK;
}

/* The manifest as a table: what an archive holds can be read without
 * unpacking any of it. Byte planes are marked, because tar alone does not
 * restore such a file. */
static bise_status show_archive(bise_context *ctx, const char *path,
                                bise_error *err)
{
    static const char *const heads[] = { ">bytes", "format", "sha256", "path" };
    bise_archive a;
    bise_table table;
    bise_str out = { 0 };
    char hex[65], n[32], p[32];
    uint64_t bytes = 0;
    const bise_status s = bise_archive_open(&a, path, err);
    if (s != BISE_OK)
        return s;
    bise_json *files = bise_json_new_array();
    bise_table_init(&table, 4, heads);
    for (size_t i = 0; i < a.n; i++) {
        const bise_member *m = &a.members[i];
        bise_json *v = bise_json_new_object();
        bytes += m->bytes;
        bise_hex32(hex, m->sha256);
        bise_json_set(v, "path", bise_json_new_string(m->path));
        bise_json_set(v, "bytes", bise_json_new_int((int64_t)m->bytes));
        bise_json_set(v, "sha256", bise_json_new_string(hex));
        bise_json_append(files, v);
        bise_table_add(&table, "%" PRIu64, m->bytes);
        bise_table_add(&table, "%s", m->format ? m->format : "");
        bise_table_add(&table, "%.12s", hex);
        bise_table_add(&table, "%s%s", m->path, m->planes ? " (planes)" : "");
    }
    fact(ctx, "archive", "%zu files, %s, packed to %s in %zu frames", a.n,
         bise_format_bytes(n, bytes), bise_format_bytes(p, a.map.size),
         a.n_frames);
    bise_table_put(&out, &table, 80);
    bise_print(ctx, "\n%s\n", bise_str_get(&out));
    bise_result_set(ctx, "files", files);
    bise_table_fini(&table);
    bise_str_fini(&out);
    bise_archive_close(&a);
    return BISE_OK;
}

/* A JSONL file: its rows and what format they have. */
static bise_status show_data(bise_context *ctx, const char *path,
                             bise_error *err)
{
    bise_map map;
    bise_json *row = NULL;
    bise_status s = bise_map_open(&map, path, err);
    int64_t rows = 0;
    if (s != BISE_OK)
        return s;
    const char *p = map.data ? (const char *)map.data : "";
    const char *end = p + map.size, *nl = memchr(p, '\n', (size_t)map.size);
    s = bise_json_parse(&row, p, nl ? (size_t)(nl - p) : (size_t)map.size,
                        err);
    for (; s == BISE_OK && p < end; rows++) {
        nl = memchr(p, '\n', (size_t)(end - p));
        p = nl ? nl + 1 : end;
    }
    if (s == BISE_OK) {
        const bise_schema *f = bise_schema_of(row);
        fact_text(ctx, "format", "data");
        fact_text(ctx, "rows_of", f ? bise_schema_name(f) : "unknown keys");
        fact_int(ctx, "rows", rows);
    }
    bise_json_free(row);
    bise_map_close(&map);
    return s == BISE_OK ? s : bise_error_in(err, path, NULL);
}

/* What all stores have in common comes last: sizes, types, tensors. Before
 * it stand the facts of the kind: model, adapter, imatrix. */
static bise_status show_store(bise_context *ctx, const char *path,
                              bise_store *store, bise_error *err)
{
    const char *kind = kind_of(store);
    bise_status s = BISE_OK;
    fact_text(ctx, "format", bise_store_format(store));
    fact_text(ctx, "kind", kind);
    if (bise_store_kind_of(store) == BISE_STORE_ARCHIVE)
        s = show_archive(ctx, path, err);
    if (strcmp(kind, "adapter") == 0)
        show_adapter(ctx, path);
    else if (strcmp(kind, "imatrix") == 0)
        s = show_imatrix(ctx, path, err);
    else if (s == BISE_OK && strcmp(kind, "model") == 0)
        s = show_model(ctx, path, store);
    if (s != BISE_OK)
        return s;
    show_size(ctx, store);
    show_types(ctx, store);
    show_tensors(ctx, store);
    return BISE_OK;
}

/* A store when it opens as one; otherwise the other kinds of files are tried
 * in turn, and when none fits the store's own message is the one that
 * stands. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const char *path = bise_arg(ctx->args, 0);
    bise_store *store = NULL;
    bise_error other;
    if (bise_store_open(&store, path, err) == BISE_OK) {
        const bise_status s = show_store(ctx, path, store, err);
        bise_store_close(store);
        return s;
    }
    if (err->status != BISE_EFORMAT || bise_is_dir(path))
        return err->status;
    /* not a store: an archive of other files, a legacy imatrix, data */
    bise_error_init(&other);
    if (bise_archive_probe(path) &&
        show_archive(ctx, path, &other) == BISE_OK) {
        bise_result_set(ctx, "format", bise_json_new_string("archive"));
        bise_error_init(err);
        return BISE_OK;
    }
    if ((bise_ends_with(path, ".jsonl") || bise_ends_with(path, ".json")) &&
        bise_file_exists(path)) {
        bise_error_init(err);
        return show_data(ctx, path, err);
    }
    bise_error_init(&other);
    if (bise_ends_with(path, ".dat") &&
        show_imatrix(ctx, path, &other) == BISE_OK) {
        fact_text(ctx, "format", "imatrix");
        bise_error_init(err);
        return BISE_OK;
    }
    return err->status;
}

const bise_command bise_cmd_inspect = {
    .name = "inspect", .args = "PATH [--tensors]",
    .help = "tell what a model, adapter, archive or data file is",
    .details = "Reads headers only. PATH is a model in any layout, an adapter, "
        "an importance\nmatrix, an archive of bise pack, or a JSONL file.",
    .options = options, .min_args = 1, .max_args = 1, .run = run
};
