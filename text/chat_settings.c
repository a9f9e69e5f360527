/* chat_settings.c - model settings of v15; see chat_settings.h. A file says
 * which it has:
 *   "model_settings_builder": {
 *     "reasoning_effort": {"type": "enum", "values": ["none", "high"],
 *                          "accepts_none": true, "default": "high"},
 *     "json_schema": {"type": "json_schema", ...} }
 * and the model sees {"json_schema": {...}, "reasoning_effort": "high"}, keys
 * sorted, before the first [INST]. Vocabularies without the rules (GGUF,
 * tokenizer.json) have no default: they get what the row says, or nothing.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/chat_settings.h"

#include <stdbool.h>
#include <string.h>

/* All there are in mistral-common's protocol, least first. */
static const char *const efforts[] = {
    "none", "minimal", "low", "medium", "high", "xhigh", "max",
};

/* Is it one of the words of the protocol? */
static bool is_effort(const char *s)
{
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++)
        if (!strcmp(s, efforts[i]))
            return true;
    return false;
}

/* Does the list of strings hold s? */
static bool holds(const bise_json *list, const char *s)
{
    for (size_t i = 0; i < bise_json_size(list); i++) {
        const char *v = bise_json_string(bise_json_at(list, i), NULL);
        if (v && !strcmp(v, s))
            return true;
    }
    return false;
}

/* A null member is a setting the model does not have. */
bise_status bise_chat_settings_check(const bise_json *rules, bise_error *err)
{
    const bise_json *effort = bise_json_get(rules, "reasoning_effort");
    if (bise_json_is_null(rules))
        return BISE_OK;
    if (bise_json_typeof(rules) != BISE_JSON_OBJECT)
        return bise_fail(err, BISE_EFORMAT,
                         "'model_settings_builder' is not an object");
    if (bise_json_is_null(effort))
        return BISE_OK;
    const bise_json *values = bise_json_get(effort, "values");
    const char *first =
        bise_json_string(bise_json_get(effort, "default"), NULL);
    if (!bise_json_size(values))
        return bise_fail(err, BISE_EFORMAT, "'model_settings_builder."
                         "reasoning_effort.values' is not a list of strings");
    if (!first || !holds(values, first))
        return bise_fail(err, BISE_EFORMAT, "'model_settings_builder."
                         "reasoning_effort.default' is %s%.40s, not one of "
                         "its values", first ? "" : "absent", first ? first
                         : "");
    return BISE_OK;
}

/* The effort that a conversation gets, NULL for none. What the row says must
 * be known to the protocol and allowed by the file. */
static bise_status choose_effort(const char **out, const bise_json *rules,
                                 const bise_json *wish, const char *effort,
                                 bise_error *err)
{
    const bise_json *rule = bise_json_get(rules, "reasoning_effort");
    const bise_json *values = bise_json_get(rule, "values");
    if (!bise_json_is_null(wish))
        effort = bise_json_string(wish, NULL);
    if (!bise_json_is_null(wish) && !effort)
        return bise_fail(err, BISE_EFORMAT,
                         "'reasoning_effort' is not a string");
    if (effort && !is_effort(effort))
        return bise_fail(err, BISE_EFORMAT, "'reasoning_effort' is '%.40s', "
                         "not none, minimal, low, medium, high, xhigh or max",
                         effort);
    if (rules && bise_json_is_null(rule))
        effort = NULL;          /* a model without this setting */
    else if (!effort)
        effort = bise_json_string(bise_json_get(rule, "default"), NULL);
    if (effort && values && !holds(values, effort))
        return bise_fail(err, BISE_EUNSUPPORTED, "'reasoning_effort' is "
                         "'%.40s', which this model does not have", effort);
    *out = effort;
    return BISE_OK;
}

/* Append the schema an answer must follow: false when the row asks for free
 * text or the model has no such setting. */
static bise_status put_schema(bise_str *out, bool *some,
                              const bise_json *rules, const bise_json *wish,
                              bise_error *err)
{
    const char *type = bise_json_string(bise_json_get(wish, "type"), NULL);
    *some = false;
    if (bise_json_is_null(bise_json_get(rules, "json_schema")) || !type ||
        !strcmp(type, "text"))
        return BISE_OK;
    if (!strcmp(type, "json_object")) {
        bise_str_puts(out, "\"json_schema\": {\"anyOf\": [{\"type\": "
                           "\"object\"}, {\"type\": \"array\"}]}");
        *some = true;
        return BISE_OK;
    }
    const bise_json *schema = bise_json_get(
        bise_json_get(wish, "json_schema"), "schema");
    if (strcmp(type, "json_schema") != 0 ||
        bise_json_typeof(schema) != BISE_JSON_OBJECT)
        return bise_fail(err, BISE_EFORMAT, "'response_format' of type "
                         "'%.40s' has no 'json_schema.schema'", type);
    bise_str_puts(out, "\"json_schema\": ");
    bise_json_dump_python(out, schema);
    *some = true;
    return BISE_OK;
}

/* Before v15 an effort cannot be said, so asking for one is a fault; answers
 * with a schema are then the sampler's business and leave no trace. */
bise_status bise_chat_settings(bise_str *out, const bise_chat *c,
                               const bise_json *rules,
                               const bise_json *options, const char *effort,
                               bise_error *err)
{
    const bise_json *wish = bise_json_get(options, "reasoning_effort");
    bool schema = false;
    if (!c->settings)
        return bise_json_is_null(wish) && !effort ? BISE_OK :
               bise_fail(err, BISE_EUNSUPPORTED, "'reasoning_effort' cannot "
                         "be expressed in %s", c->name);
    bise_status s = choose_effort(&effort, rules, wish, effort, err);
    bise_str_putc(out, '{');
    if (s == BISE_OK)
        s = put_schema(out, &schema, rules,
                       bise_json_get(options, "response_format"), err);
    if (s == BISE_OK && effort)
        bise_str_printf(out, "%s\"reasoning_effort\": \"%s\"",
                        schema ? ", " : "", effort);
    bise_str_putc(out, '}');
    if (!bise_str_ok(out))
        return s == BISE_OK ? bise_fail_nomem(err) : s;
    if (s != BISE_OK || (!schema && !effort))
        bise_str_clear(out);
    return s;
}
