/* check_float8.c - tests of convert/float8.c, convert/vision.c and the blocks
 * of config.json and params.json that go with them: block scales follow their
 * weight from layout to layout where rows stay in their block, and are refused
 * where they do not; every name of the vision tower is found again.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "convert/vision.h"
#include "core/file.h"
#include "formats/safetensors.h"
#include "pipeline/run.h"
#include "tests/check_main.h"

#define FP8 BISE_SRCDIR "/tests/golden/fp8"
#define SCALE ".weight_scale_inv"
#define MOST 96

static bise_error err;
static char dir[] = "/tmp/bise-flt8-XXXXXX";

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    bise_error_init(&err);
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

static const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

/* The golden model with blocks of scales, each its own power of two, in place
 * of one a tensor; activations without scales, as block releases are. */
static float values[MOST][64];

static size_t with_blocks(bise_tensor *list, const bise_st *st, uint64_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const char *name = st->tensors[i].name;
        if (strstr(name, ".activation_scale"))
            continue;
        ck_assert_uint_lt(n, MOST);
        list[n] = st->tensors[i];
        if (strstr(name, SCALE)) {
            char weight[200];
            snprintf(weight, sizeof weight, "%.*s.weight",
                     (int)(strstr(name, SCALE) - name), name);
            const bise_tensor *w = bise_st_find(st, weight);
            bise_tensor *t = &list[n];
            t->dtype = BISE_DTYPE_F32;
            t->n_dims = 2;
            t->dims[0] = (w->dims[0] + size - 1) / size;
            t->dims[1] = (w->dims[1] + size - 1) / size;
            t->bytes = 4 * t->dims[0] * t->dims[1];
            ck_assert_uint_le(t->bytes, sizeof values[0]);
            for (size_t k = 0; k < t->bytes / 4; k++)
                values[n][k] = ldexpf(1, -(int)((n + k) % 9));
            t->data = values[n];
        }
        n++;
    }
    return n;
}

static void write_config(const char *file, uint64_t size)
{
    bise_json *config = NULL, *block = bise_json_new_array();
    bise_str text = { 0 };
    ck_ok(bise_json_load(&config, FP8 "/config.json", &err));
    bise_json *q = bise_json_get(config, "quantization_config");
    bise_json_append(block, bise_json_new_int((int64_t)size));
    bise_json_append(block, bise_json_new_int((int64_t)size));
    bise_json_set(q, "weight_block_size", block);
    bise_json_set(q, "activation_scheme", bise_json_new_string("dynamic"));
    bise_json_dump(&text, config, 0, false);
    ck_ok(bise_file_write(file, text.data, text.len, &err));
    bise_json_free(config);
    bise_str_fini(&text);
}

static void make_blocks(const char *name, uint64_t size)
{
    bise_st st;
    bise_str file = { 0 };
    bise_tensor list[MOST];
    uint64_t data = 0;
    char path[300];
    ck_ok(bise_st_open(&st, FP8 "/model.safetensors", &err));
    const size_t n = with_blocks(list, &st, size);
    ck_ok(bise_st_header(&file, NULL, list, n, &data, &err));
    for (size_t i = 0; i < n; i++)
        bise_str_add(&file, list[i].data, (size_t)list[i].bytes);
    ck_ok(bise_mkdir(at(name), &err));
    snprintf(path, sizeof path, "%s/model.safetensors", at(name));
    ck_ok(bise_file_write(path, file.data, file.len, &err));
    snprintf(path, sizeof path, "%s/config.json", at(name));
    write_config(path, size);
    bise_str_fini(&file);
    bise_st_close(&st);
}

static bise_status convert(const char *from, const char *to, bise_layout layout,
                           bool keep)
{
    bise_checkpoint c;
    bise_plan p;
    bise_run_result r = { 0 };
    const bise_convert_options o = { .to = layout, .keep_fp8 = keep,
                                     .dtype = BISE_DTYPE_NONE };
    const bise_run_options run = { .path = at(to), .stage = "convert" };
    bise_status s = bise_checkpoint_open(&c, from, NULL, &err);
    ck_assert_msg(s == BISE_OK, "%s", err.text);
    s = bise_convert_plan(&p, &c, &o, &err);
    if (s == BISE_OK)
        s = bise_run(&p, &run, &r, &err);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
    return s;
}

/* Every tensor of a is in b, the same bytes. */
static void same_tensors(const char *a, const char *b)
{
    bise_st x, y;
    ck_ok(bise_st_open(&x, a, &err));
    ck_ok(bise_st_open(&y, b, &err));
    ck_assert_uint_eq(x.n_tensors, y.n_tensors);
    for (size_t i = 0; i < x.n_tensors; i++) {
        const bise_tensor *t = &x.tensors[i];
        const bise_tensor *u = bise_st_find(&y, t->name);
        ck_assert_msg(u != NULL, "no %s", t->name);
        ck_assert_uint_eq(t->bytes, u->bytes);
        ck_assert_int_eq(t->n_dims, u->n_dims);
        ck_assert_msg(memcmp(t->data, u->data, (size_t)t->bytes) == 0, "%s",
                      t->name);
    }
    bise_st_close(&x);
    bise_st_close(&y);
}

/* Heads of 24 rows in blocks of 24 and of 48: rows stay in their block. */
START_TEST(block_scales_go_through_native)
{
    const uint64_t size = _i ? 48 : 24;
    bise_json *params = NULL;
    bise_st st;
    make_blocks("hf", size);
    ck_ok(convert(at("hf"), "native", BISE_TO_NATIVE, true));
    ck_ok(bise_st_open(&st, at("native/consolidated.safetensors"), &err));
    ck_assert_ptr_nonnull(bise_st_find(
        &st, "layers.0.attention.wq.weight_scale"));
    for (size_t i = 0; i < st.n_tensors; i++)
        ck_assert_ptr_null(strstr(st.tensors[i].name, "qscale"));
    bise_st_close(&st);
    ck_ok(bise_json_load(&params, at("native/params.json"), &err));
    const bise_json *q = bise_json_get(params, "quantization_config");
    ck_assert_str_eq(bise_json_string(bise_json_get(q, "format"), NULL),
                     "float-quantized");
    bise_json_free(params);
    ck_ok(convert(at("native"), "back", BISE_TO_HF, true));
    same_tensors(at("hf/model.safetensors"), at("back/model.safetensors"));
    ck_ok(convert(at("native"), "bf16", BISE_TO_HF, false));
    ck_ok(convert(at("hf"), "want", BISE_TO_SAME, false));
    same_tensors(at("want/model.safetensors"), at("bf16/model.safetensors"));
}
END_TEST

/* In blocks of 16 a head's rows would need scales of two blocks. */
START_TEST(rows_that_leave_their_block_are_refused)
{
    make_blocks("hf", 16);
    ck_assert_int_eq(convert(at("hf"), "native", BISE_TO_NATIVE, true),
                     BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "heads of 24 in blocks of 16"));
    ck_assert_ptr_nonnull(strstr(err.tensor, "self_attn.q_proj.weight"));
    ck_assert(!bise_file_exists(at("native")));
    bise_error_init(&err);                      /* decoded it is no matter */
    ck_ok(convert(at("hf"), "native", BISE_TO_NATIVE, false));
}
END_TEST

START_TEST(adapters_and_kept_codes_exclude_each_other)
{
    bise_checkpoint c;
    bise_plan p;
    bise_lora lora;
    bise_lora *list[1] = { &lora };
    ck_ok(bise_checkpoint_open(&c, FP8, NULL, &err));
    ck_ok(bise_lora_load(&lora, BISE_SRCDIR "/tests/golden/lora/plain", &c,
                         &err));
    const bise_convert_options o = { .to = BISE_TO_SAME, .keep_fp8 = true,
                                     .dtype = BISE_DTYPE_NONE, .loras = list,
                                     .n_loras = 1 };
    ck_assert_int_eq(bise_convert_plan(&p, &c, &o, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "adapters cannot be merged"));
    bise_plan_fini(&p);
    bise_lora_fini(&lora);
    bise_checkpoint_close(&c);
}
END_TEST

/* ---- names of the tower ---- */

static const struct { const char *hf, *native, *gguf; int layer; bool rotated; }
names[] = {
    { "vision_tower.patch_conv.weight", "vision_encoder.patch_conv.weight",
      "v.patch_embd.weight", -1, false },
    { "vision_tower.transformer.layers.23.attention.q_proj.weight",
      "vision_encoder.transformer.layers.23.attention.wq.weight",
      "v.blk.23.attn_q.weight", 23, true },
    { "vision_tower.transformer.layers.0.attention.o_proj.weight",
      "vision_encoder.transformer.layers.0.attention.wo.weight",
      "v.blk.0.attn_out.weight", 0, false },
    { "vision_tower.transformer.layers.7.feed_forward.down_proj.weight",
      "vision_encoder.transformer.layers.7.feed_forward.w2.weight",
      "v.blk.7.ffn_down.weight", 7, false },
    { "multi_modal_projector.norm.weight", "pre_mm_projector_norm.weight",
      "mm.input_norm.weight", -1, false },
    { "multi_modal_projector.linear_2.bias",
      "vision_language_adapter.w_out.bias", "mm.2.bias", -1, false },
};

START_TEST(a_name_is_found_in_every_layout)
{
    const char *const own[3] = { names[_i].hf, names[_i].native,
                                 names[_i].gguf };
    for (int from = 0; from < 3; from++) {
        int layer = -2;
        const bise_vision_row *r = bise_vision_find(own[from],
                                                    (bise_names)from, &layer);
        ck_assert_msg(r != NULL, "%s", own[from]);
        ck_assert_int_eq(layer, names[_i].layer);
        ck_assert_int_eq(r->rotated, names[_i].rotated);
        for (int to = 0; to < 3; to++) {
            char out[128];
            bise_vision_name(out, r, (bise_names)to, layer);
            ck_assert_str_eq(out, own[to]);
        }
    }
    char newer[160];
    int layer;
    snprintf(newer, sizeof newer, "model.%s", names[_i].hf);
    ck_assert_ptr_nonnull(bise_vision_find(newer, BISE_NAMES_HF, &layer));
}
END_TEST

START_TEST(other_names_are_not_of_the_tower)
{
    static const char *const no[] = {
        "", "vision_tower.", "vision_tower.patch_conv.bias",
        "vision_tower.transformer.layers.x.attention.q_proj.weight",
        "vision_tower.transformer.layers.-1.attention.q_proj.weight",
        "vision_tower.transformer.layers.99999999.attention.q_proj.weight",
        "vision_tower.transformer.layers.1.attention.q_proj.weight2",
        "model.model.vision_tower.ln_pre.weight", "v.blk.0.attn_q.weight",
        "language_model.model.norm.weight" };
    int layer;
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        ck_assert_msg(!bise_vision_find(no[i], BISE_NAMES_HF, &layer), "%s",
                      no[i]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("float8");
    TCase *t = tcase_create("float8");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_loop_test(t, block_scales_go_through_native, 0, 2);
    tcase_add_test(t, rows_that_leave_their_block_are_refused);
    tcase_add_test(t, adapters_and_kept_codes_exclude_each_other);
    tcase_add_loop_test(t, a_name_is_found_in_every_layout, 0,
                        (int)(sizeof names / sizeof *names));
    tcase_add_test(t, other_names_are_not_of_the_tower);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
