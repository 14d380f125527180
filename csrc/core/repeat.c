/*
 * repeat.c - the sample line that is the one before with other label values.
 *
 * On a real page nearly every line is: the buckets of a histogram differ in le,
 * the series of a family in a rank. What equals the line before has been
 * checked with it, so that comparing is all there is to do; only the values
 * that differ are looked at. A line that differs in anything else, or holds
 * escapes or text beyond ASCII where it differs, is left to sample.c.
 */
#include "reader.h"
#include "simd.h"

static bool spans_room(sgc__model *model, uint32_t n)
{
    sgc__span *spans;

    if (n <= model->n_spans_room)
        return true;
    spans = sgc__resize(model->spans, n, sizeof *spans);
    if (!spans)
        return false;
    model->spans = spans;
    model->n_spans_room = n;
    return true;
}

void sgc__model_set(sgc__parser *ps, const sgc__sample *s, const char *series_end)
{
    sgc__model *model = &ps->model;
    size_t len = (size_t)(series_end - s->line);

    model->usable = !s->odd && !s->exemplar && s->n_labels && s->name.ptr == s->line && len < UINT32_MAX &&
                    spans_room(model, s->n_labels);
    if (!model->usable)
        return; /* without memory for it the next line is read as any other */
    model->series_len = (uint32_t)len;
    model->sample = *s;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        const sgc_label *label = &s->labels[i];
        model->spans[i] = (sgc__span){(uint32_t)(label->name.ptr - s->line), (uint32_t)label->name.len,
                                      (uint32_t)(label->value.ptr - s->line), (uint32_t)label->value.len,
                                      label->escaped};
    }
}

/* Takes label k's value at `p` in the place of the model's, and returns its end.
 * `at` is where they begin to differ, in the model's line; `*shift` is how far
 * the line stands behind the model's before that value, and becomes how far
 * behind it. NULL: something else differs. */
static const char *value_replace(sgc__span *span, const char *line, const char *p, const char *end, uint32_t at,
                                 uint32_t *shift, uint64_t longest)
{
    const char *stop;
    uint32_t len;

    /* Where the equal part may end inside a character, it is read from its beginning. */
    if (at < span->value_at || span->escaped || (at > span->value_at && (unsigned char)p[-1] >= 0x80))
        return NULL;
    stop = sgc__plain_end(p, end);
    if (stop == end || *stop != '"' || (uint64_t)(stop - line) >= UINT32_MAX)
        return NULL;
    span->name_at += *shift;
    span->value_at += *shift;
    len = (uint32_t)(stop - line) - span->value_at;
    *shift += len - span->value_len;
    span->value_len = len;
    return len <= longest ? stop : NULL;
}

static void spans_shift(sgc__span *span, const sgc__span *end, uint32_t shift)
{
    for (; shift && span < end; span++) {
        span->name_at += shift;
        span->value_at += shift;
    }
}

/* Compares the line at p with the model's, and makes the model's spans those of
 * the line. Returns the end of the series; NULL where it does not fit, and the
 * spans are spoiled. Distances wrap around, so that they may be negative. */
static const char *series_match(sgc__model *model, const char *p, const char *end, uint64_t longest)
{
    const char *line = p, *old_line = model->sample.line, *old = old_line, *old_end = old + model->series_len;
    sgc__span *span = model->spans, *last = span + model->sample.n_labels;
    uint32_t shift = 0, changes = 0;

    for (;;) {
        size_t left = (size_t)(old_end - old), room = (size_t)(end - p);
        size_t same = sgc__common_prefix(p, old, left < room ? left : room);
        uint32_t at;

        p += same;
        old += same;
        if (old == old_end)
            break;
        at = (uint32_t)(old - old_line);
        for (; span < last && span->value_at + span->value_len < at; span++)
            spans_shift(span, span + 1, shift);
        if (span == last)
            return NULL;
        model->sample.changed = changes++ ? SGC__CHANGED_MORE : (uint32_t)(span - model->spans);
        old = old_line + span->value_at + span->value_len;
        p = value_replace(span++, line, p, end, at, &shift, longest);
        if (!p)
            return NULL;
    }
    spans_shift(span, last, shift);
    model->series_len += shift;
    return p;
}

const char *sgc__repeat_read(sgc__reader *r, const char *p)
{
    sgc__parser *ps = r->ps;
    sgc__model *model = &ps->model;
    sgc__sample *s = &model->sample;
    const char *series_end, *next;

    series_end = series_match(model, p, ps->end, ps->options.limits.label_value_length);
    if (!series_end || series_end == ps->end) {
        model->usable = false;
        return NULL;
    }
    s->labels_text = p + (s->labels_text - s->line);
    s->line = s->name.ptr = p;
    s->labels = NULL;
    s->spans = model->spans;
    s->timestamp = NAN;
    s->value_text = series_end + 1;
    next = r->short_numbers && *series_end == ' ' ? sgc__short_value(series_end + 1, ps->end, &s->value) : NULL;
    if (!next) {
        next = sgc__rest_read(r, series_end, s);
        s->ex.labels = s->exemplar ? ps->labels + s->n_labels : NULL;
        model->usable = next && !s->exemplar;
    }
    return next ? sgc__sample_emit(r, next, s) : NULL;
}
