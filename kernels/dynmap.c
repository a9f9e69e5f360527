/* dynmap.c - values of the dynamic maps: decade i = 0..6 holds 2^i midpoints
 * (2^(i+1) without signs) of equal parts of [0.1, 1], times 10^(i-6); besides
 * 0 and 1 (lora.md 9). Called by the 8-bit optimizer and by NF4's second
 * quantization.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/dynmap.h"

#include <math.h>
#include <stdlib.h>

/* Ascending order of floats for qsort; there are no NaNs here. */
static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Border k of parts equal parts of [0.1, 1], rounded as torch.linspace does:
 * one fused step from the nearer end. */
static float border(int k, int parts)
{
    const float low = 0.1f, step = (1 - low) / (float)parts;
    return k < (parts + 1) / 2 ? (float)(low + (double)step * k)
                               : (float)(1 - (double)step * (parts - k));
}

/* Both signs: 2 x 127 values and 0 and 1; without signs 254 and 0 and 1:
 * always 256. Products and means are rounded to float where torch rounds them,
 * so that the maps are equal bit for bit. */
void bise_dynmap_init(bise_dynmap *m, bool both_signs)
{
    int n = 0;
    for (int i = 0; i < 7; i++) {
        const int parts = both_signs ? 1 << i : 2 << i;
        const float scale = (float)pow(10, i - 6);
        for (int k = 0; k < parts; k++) {
            const float x = (border(k, parts) + border(k + 1, parts)) / 2;
            m->value[n++] = x * scale;
            if (both_signs)
                m->value[n++] = -(x * scale);
        }
    }
    m->value[n++] = 0;
    m->value[n++] = 1;
    qsort(m->value, (size_t)n, sizeof *m->value, by_value);
    for (int i = 0; i < 255; i++)
        m->middle[i] = (m->value[i] + m->value[i + 1]) * 0.5f;
}

/* The code is the number of middles below x: values on a middle go down. */
uint8_t bise_dynmap_code(const bise_dynmap *m, float x)
{
    int low = 0;
    /* The number of middles below x, by halves: 8 steps. */
    for (int step = 128; step; step >>= 1)
        if (low + step <= 255 && m->middle[low + step - 1] < x)
            low += step;
    return (uint8_t)low;
}

/* One step towards the value's own side; the map has codes on both sides of
 * zero, so c + 1 and c - 1 exist. */
uint8_t bise_dynmap_code_signed(const bise_dynmap *m, float x)
{
    const uint8_t c = bise_dynmap_code(m, x);
    if (signbit(m->value[c]) == signbit(x))
        return c;
    return (uint8_t)(x > 0 ? c + 1 : c - 1);
}

/* The fused addition of a half is part of the bytes. */
uint8_t bise_dynmap_code_grid(const bise_dynmap *m, float x)
{
    x = x < -1 ? -1 : x > 1 ? 1 : x;
    const int point = (int)fmaf((x + 1) * 0.5f, 65535.0f, 0.5f);
    return bise_dynmap_code(m, (float)(2 * point) / 65535.0f - 1);
}
