/* lineage.c - see lineage.h. Reading is lenient, since facts come from texts
 * that people wrote; what was not understood is left out. Called by card.c,
 * by the loaders and writers of adapters, and by the plans of convert/.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/lineage.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "core/version.h"
#include "formats/yaml.h"

static const char site[] = "https://huggingface.co/";

/* ---- lists of texts ---- */

static bool has(const bise_json *list, const char *text)
{
    for (size_t i = 0; i < bise_json_size(list); i++) {
        const char *s = bise_json_string(bise_json_at(list, i), NULL);
        if (s && strcmp(s, text) == 0)
            return true;
    }
    return false;
}

/* The list is made with its first text. */
int bise_lineage_add(bise_json *l, const char *key, const char *text)
{
    bise_json *list = bise_json_get(l, key);
    if (!*text || has(list, text))
        return 0;
    if (list)
        return bise_json_append(list, bise_json_new_string(text));
    list = bise_json_new_array();
    const int bad = bise_json_append(list, bise_json_new_string(text));
    return bise_json_set(l, key, list) | bad;
}

/* One text where a list is meant is a list of one; others are skipped. */
int bise_lineage_add_all(bise_json *l, const char *key, const bise_json *v)
{
    const bool list = bise_json_typeof(v) == BISE_JSON_ARRAY;
    int bad = 0;
    for (size_t i = 0; i < (list ? bise_json_size(v) : 1); i++) {
        const char *s = bise_json_string(list ? bise_json_at(v, i) : v, NULL);
        if (s)
            bad |= bise_lineage_add(l, key, s);
    }
    return bad;
}

/* "a, b" cut at a mark of one character, blanks around it dropped. */
static int add_joined(bise_json *l, const char *key, const char *text,
                      char mark)
{
    int bad = 0;
    while (text && *text) {
        const char *end = strchrnul(text, mark);
        const char *first = text + strspn(text, " ");
        char *one = bise_strndup(first, first < end ? (size_t)(end - first)
                                                    : 0);
        bad |= one ? bise_lineage_add(l, key, one) : -1;
        bise_free(one);
        text = end + (*end != 0);
    }
    return bad;
}

static int set_text(bise_json *l, const char *key, const char *text)
{
    return text && *text ? bise_json_set(l, key, bise_json_new_string(text))
                         : 0;
}

static const char *text_of(const bise_json *l, const char *key)
{
    return bise_json_string(bise_json_get(l, key), NULL);
}

/* ---- reading ---- */

static bool is_apache_id(const char *id)
{
    return strcasecmp(id, "apache-2.0") == 0;
}

/* A list of the card replaces what was known. */
static void card_list(bise_json *l, const char *key, const bise_json *v)
{
    if (!v)
        return;
    bise_json_remove(l, key);
    (void)bise_lineage_add_all(l, key, v);
}

/* "other" stands for the name beside it. A card without front matter, or with
 * one that cannot be read, has no facts. */
static void read_front(bise_json *l, const bise_json *front)
{
    const bise_json *v = bise_json_get(front, "license");
    if (bise_json_typeof(v) == BISE_JSON_ARRAY)
        v = bise_json_at(v, 0);
    const char *id = bise_json_string(v, NULL);
    const char *name = text_of(front, "license_name");
    if (id && name && strcmp(id, "other") == 0)
        id = name;
    (void)set_text(l, "license", id);
    (void)set_text(l, "license_name", name);
    (void)set_text(l, "license_link", text_of(front, "license_link"));
    card_list(l, "base_model", bise_json_get(front, "base_model"));
    card_list(l, "datasets", bise_json_get(front, "datasets"));
    card_list(l, "tags", bise_json_get(front, "tags"));
    card_list(l, "language", bise_json_get(front, "language"));
}

/* Merging copies the card of the base, which knows neither the adapters' data
 * nor their terms, and whose base_model is that of the base. */
int bise_lineage_card(bise_json *l, const char *text, size_t n)
{
    bise_json *front = NULL;
    bise_error ignored;
    bise_error_init(&ignored);
    if (bise_yaml_front_matter(&front, text, n, &ignored) != BISE_OK)
        return ignored.status == BISE_ENOMEM ? -1 : 0;
    bise_json *old = bise_json_copy(l);
    read_front(l, front);
    const char *id = bise_lineage_licence(old);
    if (*id && !is_apache_id(id))
        (void)set_text(l, "license", id);
    (void)bise_lineage_add_all(l, "datasets", bise_json_get(old, "datasets"));
    if (bise_json_number(bise_json_get(old, "adapters"), 0) > 0) {
        bise_json_remove(l, "base_model");
        (void)bise_lineage_add_all(l, "base_model",
                                   bise_json_get(old, "base_model"));
    }
    bise_json_free(old);
    bise_json_free(front);
    return 0;
}

/* Ours are taken apart, the rest is kept as it is. */
bise_json *bise_lineage_of_st(const bise_json *meta)
{
    bise_json *l = bise_json_new_object(), *rest = bise_json_copy(meta);
    int bad = l ? 0 : -1;
    static const char *const texts[] = { "license", "license_name",
                                         "license_link", "license_warning" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bad |= set_text(l, texts[i], text_of(meta, texts[i]));
    bad |= add_joined(l, "base_model", text_of(meta, "base_model"), ',');
    bad |= add_joined(l, "datasets", text_of(meta, "datasets"), ',');
    bad |= add_joined(l, "history", text_of(meta, "bise_history"), '\n');
    const double n = bise_json_number(bise_json_get(meta, "adapters"), 0);
    if (n > 0 && n < 1e6)
        bad |= bise_json_set(l, "adapters", bise_json_new_int((int64_t)n));
    static const char *const ours[] = { "license", "license_name",
        "license_link", "license_warning", "base_model", "datasets",
        "bise_history", "bise_version", "adapters" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        bise_json_remove(rest, ours[i]);
    if (rest && bise_json_size(rest))
        bad |= bise_json_set(l, "metadata", rest);
    else
        bise_json_free(rest);
    if (!bad)
        return l;
    bise_json_free(l);
    return NULL;
}

/* A string without NUL, copied into the arena; NULL when there is none. */
static const char *key_text(const bise_gguf_meta *m, const char *key,
                            bise_arena *a)
{
    return bise_gguf_str(m, key, NULL) ? bise_gguf_strdup(m, key, a) : NULL;
}

/* general.base_model.* or general.dataset.*: the Hub id of the address, else
 * the name. */
static int read_sources(bise_json *l, const char *fact,
                        const bise_gguf_meta *m, const char *prefix,
                        const char *folder, bise_arena *a)
{
    char key[96];
    int bad = 0;
    snprintf(key, sizeof key, "%s.count", prefix);
    const int64_t n = bise_gguf_int(m, key, 0);
    bool more = true;           /* a list without its count counts as well */
    for (int64_t i = 0; (i < n || more) && i < 1000; i++) {
        snprintf(key, sizeof key, "%s.%lld.repo_url", prefix, (long long)i);
        const char *s = key_text(m, key, a);
        more = s != NULL;
        if (s && bise_starts_with(s, site)) {
            s += sizeof site - 1;
            s += bise_starts_with(s, folder) ? strlen(folder) : 0;
        } else {
            snprintf(key, sizeof key, "%s.%lld.name", prefix, (long long)i);
            s = key_text(m, key, a);
            more = s != NULL;
        }
        if (s)
            bad |= bise_lineage_add(l, fact, s);
    }
    return bad;
}

/* An array of strings of the file. */
static int read_strings(bise_json *l, const char *fact,
                        const bise_gguf_meta *m, const char *key)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, key);
    uint64_t at = 0;
    size_t n = 0;
    const char *s;
    int bad = 0;
    if (!kv || kv->type != BISE_GGUF_ARRAY || kv->elem != BISE_GGUF_STR)
        return 0;
    while ((s = bise_gguf_array_next(kv, &at, &n)) != NULL) {
        char *one = memchr(s, 0, n) ? NULL : bise_strndup(s, n);
        bad |= one ? bise_lineage_add(l, fact, one) : 0;
        bise_free(one);
    }
    return bad;
}

bise_json *bise_lineage_of_gguf(const bise_gguf_meta *m)
{
    bise_json *l = bise_json_new_object();
    bise_arena a = { 0 };
    int bad = l ? 0 : -1;
    if (!m)
        return l;
    bad |= set_text(l, "license", key_text(m, "general.license", &a));
    bad |= set_text(l, "license_name", key_text(m, "general.license.name",
                                                &a));
    bad |= set_text(l, "license_link", key_text(m, "general.license.link",
                                                &a));
    bad |= set_text(l, "license_warning", key_text(m, "bise.license.warning",
                                                   &a));
    bad |= read_sources(l, "base_model", m, "general.base_model", "", &a);
    bad |= read_sources(l, "datasets", m, "general.dataset", "datasets/", &a);
    bad |= read_strings(l, "tags", m, "general.tags");
    bad |= read_strings(l, "language", m, "general.languages");
    bad |= read_strings(l, "history", m, "bise.history");
    const int64_t n = bise_gguf_int(m, "bise.adapters", 0);
    if (n > 0 && n < 1000000)
        bad |= bise_json_set(l, "adapters", bise_json_new_int(n));
    bise_arena_fini(&a);
    if (!bad)
        return l;
    bise_json_free(l);
    return NULL;
}

/* Side file as text; absent or unreadable is empty. */
static void side_text(bise_str *out, bise_store *s, const char *name)
{
    bise_error ignored;
    bise_error_init(&ignored);
    if (!bise_store_has_file(s, name) ||
        bise_store_file(s, name, out, &ignored) != BISE_OK)
        bise_str_clear(out);
}

/* Hub ids have one slash inside; whatever else has slashes is a path. */
void bise_lineage_name(char *out, size_t size, const char *text)
{
    const char *slash = strchr(text, '/');
    const bool path = strchr("/.~", *text) || strchr(text, '\\') ||
                      (slash && (strchr(slash + 1, '/') ||
                                 bise_file_exists(text) ||
                                 bise_is_dir(text)));
    size_t n = strlen(text), from = 0;
    while (path && n > 0 && strchr("/\\", text[n - 1]))
        n--;
    for (size_t i = 0; path && i < n; i++)
        if (strchr("/\\", text[i]))
            from = i + 1;
    snprintf(out, size, "%.*s", (int)(n - from), text + from);
}

/* The word alone, or with an extension. */
static bool is_named(const char *name, const char *const *words)
{
    for (; *words; words++) {
        const size_t n = strlen(*words);
        if (strncasecmp(name, *words, n) == 0 && (!name[n] || name[n] == '.'))
            return true;
    }
    return false;
}

bool bise_lineage_is_licence(const char *name)
{
    static const char *const words[] = { "LICENSE", "LICENCE", "COPYING",
                                         NULL };
    return is_named(name, words);
}

bool bise_lineage_is_notice(const char *name)
{
    static const char *const words[] = { "NOTICE", NULL };
    return is_named(name, words);
}

/* The title and the version of the licence text, in its first lines. */
static bool is_apache(const char *text)
{
    char head[601];
    snprintf(head, sizeof head, "%s", text);
    return strstr(head, "Apache License") &&
           strstr(head, "Version 2.0, January 2004");
}

bise_json *bise_lineage_read(bise_store *s)
{
    const bise_gguf_meta *m = bise_store_gguf(s);
    bise_json *l = m ? bise_lineage_of_gguf(m)
                     : bise_lineage_of_st(bise_store_metadata(s));
    bise_str text = { 0 };
    if (!l)
        return NULL;
    side_text(&text, s, "README.md");
    if (text.len && (!m || !*bise_lineage_licence(l)) &&
        bise_lineage_card(l, bise_str_get(&text), text.len) != 0) {
        bise_str_fini(&text);
        bise_json_free(l);
        return NULL;
    }
    const size_t n = bise_store_file_count(s);
    for (size_t i = 0; i < n && !*bise_lineage_licence(l); i++) {
        if (!bise_lineage_is_licence(bise_store_file_at(s, i)))
            continue;
        bise_str_clear(&text);
        side_text(&text, s, bise_store_file_at(s, i));
        if (is_apache(bise_str_get(&text)))
            (void)set_text(l, "license", "apache-2.0");
    }
    bise_str_fini(&text);
    return l;
}

const char *bise_lineage_licence(const bise_json *l)
{
    const char *s = text_of(l, "license");
    return s ? s : "";
}

/* ---- deriving ---- */

/* An adapter under other terms puts the sum under them. */
static int join_licence(bise_json *l, const bise_json *adapter)
{
    const char *own = bise_lineage_licence(l);
    const char *its = bise_lineage_licence(adapter);
    if (!*its)
        return text_of(l, "license_warning") ? 0 :
            set_text(l, "license_warning", "an adapter's is unknown");
    if (is_apache_id(its) || (*own && !is_apache_id(own)))
        return 0;
    bise_json_remove(l, "license_warning");
    return set_text(l, "license", its);
}

/* What the Hub calls the model, when an adapter knows. */
static const char *base_id(const char *base_name,
                           const bise_json *const *adapters, int n)
{
    for (int i = 0; i < n; i++) {
        const bise_json *v = bise_json_get(adapters[i], "base_model");
        const char *s = bise_json_string(bise_json_at(v, 0), NULL);
        const char *slash = s ? strchr(s, '/') : NULL;
        if (slash && slash != s && *s != '.' && !strchr(slash + 1, '/') &&
            strcmp(slash + 1, base_name) == 0)
            return s;
    }
    return base_name;
}

bise_json *bise_lineage_made(const bise_json *model, const char *base_name,
                             const bise_json *const *adapters, int n)
{
    bise_json *l = model ? bise_json_copy(model) : bise_json_new_object();
    int bad = l ? 0 : -1;
    if (n > 0) {
        bise_json_remove(l, "base_model");
        bad |= bise_lineage_add(l, "base_model", base_id(base_name, adapters,
                                                         n));
        const int64_t had = (int64_t)bise_json_number(
            bise_json_get(l, "adapters"), 0);
        bad |= bise_json_set(l, "adapters", bise_json_new_int(had + n));
    }
    for (int i = 0; i < n; i++) {
        static const char *const lists[] = { "datasets", "history" };
        for (int k = 0; k < 2; k++)
            bad |= bise_lineage_add_all(l, lists[k],
                                        bise_json_get(adapters[i], lists[k]));
        bad |= join_licence(l, adapters[i]);
    }
    const char *id = bise_lineage_licence(l);
    if (!*id)
        bad |= set_text(l, "license_warning", "unknown");
    else if (!is_apache_id(id))
        bad |= set_text(l, "license_warning", "not Apache-2.0");
    else if (text_of(l, "license_warning") && n == 0 &&
             strncmp(text_of(l, "license_warning"), "an ", 3) != 0)
        bise_json_remove(l, "license_warning");
    if (!bad)
        return l;
    bise_json_free(l);
    return NULL;
}

/* ---- writing ---- */

/* "Ministral-3B" as "Ministral 3B", the way of the reference converter. */
static void put_source(bise_gguf_meta *m, const char *prefix, size_t i,
                       const char *folder, const char *id)
{
    char key[96];
    const char *slash = strchr(id, '/');
    bise_str name = { 0 }, url = { 0 };
    bise_str_puts(&name, slash ? slash + 1 : id);
    for (size_t k = 0; slash && k < name.len; k++)
        if (name.data[k] == '-' || name.data[k] == '_')
            name.data[k] = ' ';
    snprintf(key, sizeof key, "%s.%zu.name", prefix, i);
    bise_gguf_set_str(m, key, bise_str_get(&name));
    if (slash) {
        snprintf(key, sizeof key, "%s.%zu.organization", prefix, i);
        bise_gguf_set_strn(m, key, id, (size_t)(slash - id));
        bise_str_printf(&url, "%s%s%s", site, folder, id);
        snprintf(key, sizeof key, "%s.%zu.repo_url", prefix, i);
        bise_gguf_set_str(m, key, bise_str_get(&url));
    }
    bise_str_fini(&name);
    bise_str_fini(&url);
}

/* Keys that give this list already are left as their writer chose them. */
static bool says_already(const bise_gguf_meta *m, const char *prefix,
                         const char *folder, const bise_json *list)
{
    bise_json *l = bise_json_new_object();
    bise_arena a = { 0 };
    bool same = l && read_sources(l, "list", m, prefix, folder, &a) == 0;
    const bise_json *have = bise_json_get(l, "list");
    same = same && bise_json_size(have) == bise_json_size(list);
    for (size_t i = 0; same && i < bise_json_size(list); i++)
        same = strcmp(bise_json_string(bise_json_at(have, i), NULL),
                      bise_json_string(bise_json_at(list, i), NULL)) == 0;
    bise_json_free(l);
    bise_arena_fini(&a);
    return same;
}

/* general.base_model.* or general.dataset.*; older entries that would outlast
 * the list go. */
static void put_sources(bise_gguf_meta *m, const char *prefix,
                        const char *folder, const bise_json *list)
{
    static const char *const leaves[] = { "name", "organization", "repo_url",
        "author", "version", "description", "url", "doi", "uuid" };
    char key[96];
    snprintf(key, sizeof key, "%s.count", prefix);
    const size_t n = bise_json_size(list);
    const int64_t old = bise_gguf_int(m, key, 0);
    if ((!n && !old) || says_already(m, prefix, folder, list))
        return;
    bise_gguf_set_u32(m, key, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        put_source(m, prefix, i, folder, bise_json_string(
            bise_json_at(list, i), NULL));
    for (int64_t i = (int64_t)n; i < old && i < 1000; i++)
        for (size_t k = 0; k < sizeof leaves / sizeof *leaves; k++) {
            snprintf(key, sizeof key, "%s.%lld.%s", prefix, (long long)i,
                     leaves[k]);
            bise_gguf_remove(m, key);
        }
}

static void put_strings(bise_gguf_meta *m, const char *key,
                        const bise_json *list)
{
    bise_str buf = { 0 };
    const size_t n = bise_json_size(list);
    bise_gguf_strings_begin(&buf);
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        const char *s = bise_json_string(bise_json_at(list, i), &len);
        bise_gguf_strings_add(&buf, s ? s : "", len);
    }
    if (n)
        bise_gguf_set_strings(m, key, &buf, n);
    bise_str_fini(&buf);
}

/* A text, or nothing where there is none any more. */
static void put_text(bise_gguf_meta *m, const char *key, const char *text)
{
    if (text && *text)
        bise_gguf_set_str(m, key, text);
    else
        bise_gguf_remove(m, key);
}

void bise_lineage_to_gguf(bise_gguf_meta *m, const bise_json *l)
{
    put_text(m, "general.license", text_of(l, "license"));
    put_text(m, "general.license.name", text_of(l, "license_name"));
    put_text(m, "general.license.link", text_of(l, "license_link"));
    put_text(m, "bise.license.warning", text_of(l, "license_warning"));
    put_sources(m, "general.base_model", "", bise_json_get(l, "base_model"));
    put_sources(m, "general.dataset", "datasets/",
                bise_json_get(l, "datasets"));
    put_strings(m, "general.tags", bise_json_get(l, "tags"));
    put_strings(m, "general.languages", bise_json_get(l, "language"));
    const int64_t n = (int64_t)bise_json_number(bise_json_get(l, "adapters"),
                                                0);
    if (n > 0)
        bise_gguf_set_u32(m, "bise.adapters", (uint32_t)n);
    bise_gguf_set_str(m, "bise.version", bise_version());
    put_strings(m, "bise.history", bise_json_get(l, "history"));
}

/* The list as one text. */
static int put_joined(bise_json *o, const char *key, const bise_json *list,
                      const char *mark)
{
    bise_str text = { 0 };
    for (size_t i = 0; i < bise_json_size(list); i++)
        bise_str_printf(&text, "%s%s", i ? mark : "", bise_json_string(
            bise_json_at(list, i), NULL));
    const int bad = bise_str_ok(&text) ? set_text(o, key, bise_str_get(&text))
                                       : -1;
    bise_str_fini(&text);
    return bad;
}

/* "format" comes first, as transformers writes it. */
bise_json *bise_lineage_to_st(const bise_json *l)
{
    static const char *const texts[] = { "license", "license_name",
                                         "license_link", "license_warning" };
    const bise_json *rest = bise_json_get(l, "metadata");
    bise_json *o = rest ? bise_json_copy(rest) : bise_json_new_object();
    int bad = o ? 0 : -1;
    if (!bise_json_get(o, "format"))
        bad |= set_text(o, "format", "pt");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bad |= set_text(o, texts[i], text_of(l, texts[i]));
    bad |= put_joined(o, "base_model", bise_json_get(l, "base_model"), ", ");
    bad |= put_joined(o, "datasets", bise_json_get(l, "datasets"), ", ");
    const int64_t n = (int64_t)bise_json_number(bise_json_get(l, "adapters"),
                                                0);
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)n);
    if (n > 0)
        bad |= set_text(o, "adapters", number);
    bad |= set_text(o, "bise_version", bise_version());
    bad |= put_joined(o, "bise_history", bise_json_get(l, "history"), "\n");
    if (!bad)
        return o;
    bise_json_free(o);
    return NULL;
}
