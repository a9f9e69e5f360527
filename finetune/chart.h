/* chart.h - line charts as SVG: a few series over a common x axis, with grid,
 * ticks at round numbers and a legend. Colours come from CSS variables, so the
 * same markup stands alone or inside a page, light or dark.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_CHART_H
#define BISE_FINETUNE_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "core/str.h"

#define BISE_CHART_SERIES 3

typedef struct bise_series {
    const char *name;
    const double *x, *y;  /* [n]; points with a y that is not finite are left
                           * out */
    size_t n;
    bool dots;            /* mark each point with its value as tooltip */
    bool faint;           /* behind the others: raw values of a smooth line */
} bise_series;

typedef struct bise_chart {
    const char *title;    /* for screen readers, and shown when standalone */
    const char *unit;     /* of y, shown at the axis, or "" */
    bise_series series[BISE_CHART_SERIES];
    size_t n;
    bool from_zero;       /* the y axis starts at 0 */
} bise_chart;

/* Append the chart as an <svg> element; standalone adds the XML namespace, the
 * title and the colours, for a file of its own. */
void bise_chart_put(bise_str *out, const bise_chart *c, bool standalone);
/* Append CSS that defines the colours of charts, light and dark. */
void bise_chart_css(bise_str *out);
/* A step of 1, 2 or 5 times a power of ten that cuts span into at most n. */
double bise_chart_step(double span, int n);

#endif
