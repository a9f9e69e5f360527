/* chart.c - SVG line charts of 640 x 260 units. The plot area leaves room for
 * tick labels at the left and below and for the legend above; lines with more
 * than 600 points are drawn as means of equal groups. Called by report.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/chart.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 640, HEIGHT = 260, LEFT = 74, RIGHT = 22, TOP = 34, BOTTOM = 30,
       POINTS = 600, TICKS = 12 };

/* Geometry in view box units. LEFT holds six characters of the larger font of
 * phones; RIGHT half of the last tick label; POINTS is more than the plot has
 * pixels on most screens, so drawing more would only make the file larger. */
/* The data window of a chart. */
typedef struct window {
    double x0, x1, y0, y1;
    double step_x, step_y;
} window;

/* The smallest of 1, 2, 5, 10 times a power of ten that is not below span / n.
 * A span of nothing (or NaN) has ticks of 1. */
double bise_chart_step(double span, int n)
{
    if (!(span > 0))
        return 1;
    const double raw = span / n, power = pow(10, floor(log10(raw)));
    const double m = raw / power;
    return power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

/* Can a value be drawn? What is not finite cannot, nor what is so large that
 * differences of such values overflow. */
static bool drawable(double v)
{
    return fabs(v) < 1e30;
}

/* Extend lo..hi by the values of v that can be drawn. */
static void widen(double *lo, double *hi, const double *v, const double *y,
                  size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!drawable(v[i]) || !drawable(y[i]))
            continue;
        *lo = v[i] < *lo ? v[i] : *lo;
        *hi = v[i] > *hi ? v[i] : *hi;
    }
}

/* Limits at round numbers around all points. */
static window find_window(const bise_chart *c)
{
    window w = { INFINITY, -INFINITY, INFINITY, -INFINITY, 0, 0 };
    for (size_t i = 0; i < c->n; i++) {
        const bise_series *s = &c->series[i];
        widen(&w.x0, &w.x1, s->x, s->y, s->n);
        widen(&w.y0, &w.y1, s->y, s->y, s->n);
    }
    if (!(w.x0 <= w.x1)) {              /* no point at all */
        w.x0 = w.y0 = 0;
        w.x1 = w.y1 = 1;
    }
    if (c->from_zero && w.y0 > 0)
        w.y0 = 0;
    if (w.y1 - w.y0 < 1e-12 * fabs(w.y1) + 1e-300) {
        const double half = w.y1 ? fabs(w.y1) * 0.1 : 1;
        w.y0 -= c->from_zero ? 0 : half;
        w.y1 += half;
    }
    if (w.x1 <= w.x0)
        w.x1 = w.x0 + 1;
    w.step_y = bise_chart_step(w.y1 - w.y0, 5);
    w.step_x = bise_chart_step(w.x1 - w.x0, 6);
    w.step_x = w.step_x < 1 ? 1 : w.step_x;
    w.y0 = floor(w.y0 / w.step_y + 1e-9) * w.step_y;
    w.y1 = ceil(w.y1 / w.step_y - 1e-9) * w.step_y;
    return w;
}

/* From a value of x to the view box; the window is never empty, so the divisor
 * is above zero. */
static double to_x(const window *w, double x)
{
    return LEFT + (x - w->x0) / (w->x1 - w->x0) * (WIDTH - LEFT - RIGHT);
}

/* The same for y, which grows upwards while SVG counts downwards. */
static double to_y(const window *w, double y)
{
    return HEIGHT - BOTTOM -
           (y - w->y0) / (w->y1 - w->y0) * (HEIGHT - TOP - BOTTOM);
}

/* Below a thousandth: 1.5e-4, all labels of an axis alike. */
static void put_small(bise_str *out, double v)
{
    int power = (int)floor(log10(fabs(v)) + 1e-9);
    bise_str_printf(out, "%.3ge%d", v / pow(10, power), power);
}

/* A tick label: plain where it is short, else with an exponent or a suffix. */
static void put_number(bise_str *out, double v)
{
    const double a = fabs(v);
    if (a < 1e-12)
        bise_str_puts(out, "0");
    else if (a >= 1e9)
        bise_str_printf(out, "%.4gG", v / 1e9);
    else if (a >= 1e6)
        bise_str_printf(out, "%.4gM", v / 1e6);
    else if (a >= 1e4)
        bise_str_printf(out, "%.4gk", v / 1e3);
    else if (a < 1e-3)
        put_small(out, v);
    else
        bise_str_printf(out, "%.5g", v);
}

/* Horizontal lines with their values, and the values of x below. The loops run
 * on multiples of the step that find_window chose, so there are about six of
 * each, counted by integers: adding a step to a huge number may not move it. */
static void put_grid(bise_str *out, const window *w)
{
    for (int i = 0; i <= TICKS; i++) {
        const double y = w->y0 + i * w->step_y;
        if (y > w->y1 + w->step_y * 0.01)
            break;
        const double at = to_y(w, y);
        bise_str_printf(out, "<path class=\"g\" d=\"M%d %.1fH%d\"/>"
                        "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
                        LEFT, at, WIDTH - RIGHT, LEFT - 6, at + 4);
        put_number(out, y);
        bise_str_puts(out, "</text>\n");
    }
    const double first = ceil(w->x0 / w->step_x - 1e-9) * w->step_x;
    for (int i = 0; i <= TICKS; i++) {
        const double x = first + i * w->step_x;
        if (x > w->x1 + 1e-9)
            break;
        bise_str_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor="
                        "\"middle\">", to_x(w, x), HEIGHT - BOTTOM + 20);
        put_number(out, x);
        bise_str_puts(out, "</text>\n");
    }
}

/* The line of a series: groups of points are drawn as their mean. */
static void put_line(bise_str *out, const window *w, const bise_series *s,
                     size_t index)
{
    const size_t group = s->n / POINTS + 1;
    char move = 'M';
    bise_str_printf(out, "<path class=\"l c%zu%s\" d=\"", index,
                    s->faint ? " f" : "");
    for (size_t i = 0; i < s->n; i += group) {
        double x = 0, y = 0, n = 0;
        for (size_t j = i; j < i + group && j < s->n; j++) {
            if (!drawable(s->y[j]) || !drawable(s->x[j]))
                continue;
            x += s->x[j];
            y += s->y[j];
            n++;
        }
        if (!n)
            continue;
        bise_str_printf(out, "%c%.1f %.1f", move, to_x(w, x / n),
                        to_y(w, y / n));
        move = 'L';
    }
    bise_str_puts(out, "\"/>\n");
}

/* A circle for each value, with its number as the tooltip that browsers show
 * on hover and read aloud. */
static void put_dots(bise_str *out, const window *w, const bise_series *s,
                     size_t index)
{
    for (size_t i = 0; i < s->n; i++) {
        if (!drawable(s->y[i]) || !drawable(s->x[i]))
            continue;
        bise_str_printf(out, "<circle class=\"d c%zu\" cx=\"%.1f\" cy=\"%.1f\" "
                        "r=\"3.5\"><title>", index, to_x(w, s->x[i]),
                        to_y(w, s->y[i]));
        bise_str_put_html(out, s->name);
        bise_str_printf(out, " %.5g at step %.0f</title></circle>\n", s->y[i],
                        s->x[i]);
    }
}

/* Names in a row above the plot; widths are estimated from their length. */
static void put_legend(bise_str *out, const bise_chart *c)
{
    double x = LEFT;
    for (size_t i = 0; i < c->n; i++) {
        const bise_series *s = &c->series[i];
        if (!s->n)
            continue;
        bise_str_printf(out, "<path class=\"l c%zu%s\" d=\"M%.0f 16h18\"/>"
                        "<text x=\"%.0f\" y=\"20\">", i, s->faint ? " f" : "",
                        x, x + 24);
        bise_str_put_html(out, s->name);
        bise_str_puts(out, "</text>");
        size_t len = 0;
        for (const char *p = s->name; *p; p++)
            len++;
        x += 48 + 10 * (double)len;
    }
    if (*c->unit) {
        bise_str_printf(out, "<text x=\"%d\" y=\"20\" text-anchor=\"end\">",
                        WIDTH - RIGHT);
        bise_str_put_html(out, c->unit);
        bise_str_puts(out, "</text>\n");
    }
}

/* Colours as variables: a page or a viewer in dark mode only replaces those.
 * The larger font below 600 pixels makes up for the view box that a phone
 * shrinks. */
void bise_chart_css(bise_str *out)
{
    bise_str_puts(out,
        ".chart{--g:#d9dde3;--t:#5b6470;--c0:#9db8e8;--c1:#1f5fd0;"
        "--c2:#c2410c;font:14px system-ui,sans-serif}\n"
        "@media(max-width:600px){.chart{font-size:19px}}\n"
        "@media(prefers-color-scheme:dark){.chart{--g:#333a44;--t:#9aa4b2;"
        "--c0:#3d5a94;--c1:#7aa7ff;--c2:#ff9a5c}}\n"
        ".chart text{fill:var(--t)}.chart .g{stroke:var(--g);fill:none}\n"
        ".chart .l{fill:none;stroke-width:2;stroke-linejoin:round}"
        ".chart .f{stroke-width:1}\n"
        ".chart .c0{stroke:var(--c0)}.chart .c1{stroke:var(--c1)}"
        ".chart .c2{stroke:var(--c2)}\n"
        ".chart .d{stroke:none}.chart .d.c0{fill:var(--c0)}"
        ".chart .d.c1{fill:var(--c1)}.chart .d.c2{fill:var(--c2)}\n");
}

/* Order matters: what is drawn later lies on top, so the grid comes first and
 * faint series are given before the strong ones. */
void bise_chart_put(bise_str *out, const bise_chart *c, bool standalone)
{
    const window w = find_window(c);
    bise_str_printf(out, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" "
                    "role=\"img\"", WIDTH, HEIGHT);
    if (standalone)
        bise_str_puts(out, " xmlns=\"http://www.w3.org/2000/svg\"");
    bise_str_puts(out, "><title>");
    bise_str_put_html(out, c->title);
    bise_str_puts(out, "</title>\n");
    /* A file of its own brings its colours and its ground. */
    if (standalone) {
        bise_str_puts(out, "<style>");
        bise_chart_css(out);
        bise_str_puts(out, ".bg{fill:#fff}@media(prefers-color-scheme:dark)"
                           "{.bg{fill:#14171c}}</style>");
        bise_str_puts(out, "<path class=\"bg\" d=\"M0 0h640v260H0z\"/>\n");
    }
    put_grid(out, &w);
    for (size_t i = 0; i < c->n; i++) {
        put_line(out, &w, &c->series[i], i);
        if (c->series[i].dots)
            put_dots(out, &w, &c->series[i], i);
    }
    put_legend(out, c);
    bise_str_puts(out, "</svg>\n");
}
