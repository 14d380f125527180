/*
 * repeat.c - the sample line that is the one before with other label values.
 *
 * On a real page nearly every line is: the buckets of a histogram differ in le,
 * the series of a family in a rank. What equals the line before has been
 * checked with it, so that comparing is all there is to do; only the values
 * that differ are looked at. A line that differs in anything else, or holds
 * escapes or text beyond ASCII where it differs, is left to sample.c.
 *
 * Which value differs is mostly the same from line to line, so that one is
 * tried first: two comparisons of lengths that the CPU has seen before. The
 * buckets and the count of a histogram may take turns, so that two lines are
 * kept to compare with.
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

void sgc__model_set(sgc__parser *ps, sgc__sample *s, const char *series_end)
{
    sgc__model *model;
    size_t len = (size_t)(series_end - s->line);

    ps->first ^= ps->models[ps->first].usable;
    model = &ps->models[ps->first];
    model->usable = !s->odd && !s->exemplar && s->n_labels && s->name.ptr == s->line && len < UINT32_MAX &&
                    spans_room(model, s->n_labels);
    if (!model->usable)
        return; /* without memory for it the next line is read as any other */
    s->shape = ++ps->n_shapes;
    model->series_len = (uint32_t)len;
    model->expected = s->n_labels;
    model->sample = *s;
    model->sample.moved = model->sample.moved_from = 0;
    model->sample.labels = NULL;
    model->sample.spans = model->spans;
    model->sample.timestamp = NAN;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        const sgc_label *label = &s->labels[i];
        model->spans[i] =
            (sgc__span){(uint32_t)(label->name.ptr - s->line), (uint32_t)label->name.len,
                        (uint32_t)(label->value.ptr - s->line), (uint32_t)label->value.len, label->escaped};
    }
}

/* Takes label k's value at `p` in the place of the model's, and returns its end.
 * `at` is where they begin to differ, in the model's line; `*shift` is how far
 * the line stands behind the model's before that value, and becomes how far
 * behind it. NULL: something else differs. */
static const char *value_replace(sgc__span *span, const char *line, const char *p, const char *end,
                                 uint32_t at, uint32_t *shift, uint64_t longest)
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

/* The line at p, where it differs from the model's in the value of the expected
 * label alone: plain ASCII, read whole. Returns the end of the series; NULL: it
 * is another line, and nothing has been changed. */
static const char *expected_match(sgc__model *model, const char *p, const char *end, uint64_t longest)
{
    sgc__sample *s = &model->sample;
    sgc__span *span = &model->spans[model->expected];
    size_t head = span->value_at, behind = head + span->value_len, tail = model->series_len - behind, len;
    const char *stop;

    if ((size_t)(end - p) < head || memcmp(p, s->line, head) != 0)
        return NULL;
    stop = sgc__plain_end(p + head, end);
    len = (size_t)(stop - p) - head;
    if ((size_t)(end - stop) < tail || len > longest || head + len + tail >= UINT32_MAX ||
        memcmp(stop, s->line + behind, tail) != 0)
        return NULL;
    s->changed = sgc__label_bit(model->expected);
    s->moved += (uint32_t)len - span->value_len;
    s->moved_from = model->expected + 1;
    model->series_len += (uint32_t)len - span->value_len;
    span->value_len = (uint32_t)len;
    span->escaped = false;
    return stop + tail;
}

/* Compares the line at p with the model's, and makes the model's spans those of
 * the line. Returns the end of the series; NULL where it does not fit. The model
 * is then of no more use, unless not even the names before the first value fit.
 * Distances wrap around, so that they may be negative. */
static const char *any_match(sgc__model *model, const char *p, const char *end, uint64_t longest)
{
    const char *line = p, *old_line = model->sample.line, *old = old_line, *old_end = old + model->series_len;
    sgc__span *span = model->spans, *last = span + model->sample.n_labels;
    uint64_t changed = 0;
    uint32_t shift = 0, at, k = 0;

    spans_shift(span + model->sample.moved_from, last, model->sample.moved);
    model->sample.moved = model->sample.moved_from = 0;
    for (;;) {
        size_t left = (size_t)(old_end - old), room = (size_t)(end - p);
        size_t same = sgc__common_prefix(p, old, left < room ? left : room);

        p += same;
        old += same;
        if (old == old_end)
            break;
        at = (uint32_t)(old - old_line);
        if (at < model->spans->value_at)
            return NULL;
        model->usable = false;
        for (; span < last && span->value_at + span->value_len < at; span++)
            spans_shift(span, span + 1, shift);
        if (span == last)
            return NULL;
        k = (uint32_t)(span - model->spans);
        changed |= sgc__label_bit(k);
        old = old_line + span->value_at + span->value_len;
        p = value_replace(span++, line, p, end, at, &shift, longest);
        if (!p)
            return NULL;
    }
    spans_shift(span, last, shift);
    model->usable = true;
    model->series_len += shift;
    model->sample.changed = changed;
    if (changed && (model->expected >= 63 || !(changed & sgc__label_bit(model->expected))))
        model->expected = k;
    return p;
}

/* The model is that of the line at p, but another family may be at hand than was
 * at the model's. */
static void family_review(sgc__parser *ps, sgc__model *model)
{
    uint32_t before = model->sample.family;

    if (SGC_LIKELY(before == ps->current))
        return;
    model->usable = sgc__family_resolve(ps, &model->sample);
    if (model->sample.family != before)
        model->sample.shape = ++ps->n_shapes;
}

/* The series of the line at p by any label of the first model, or by the other
 * model, which is then the first. */
static const char *other_match(sgc__parser *ps, const char *p, uint64_t longest)
{
    sgc__model *model = &ps->models[ps->first];
    const char *series_end = model->usable ? any_match(model, p, ps->end, longest) : NULL;

    if (series_end)
        return series_end;
    model = &ps->models[!ps->first];
    if (!model->usable)
        return NULL;
    if (model->expected < model->sample.n_labels)
        series_end = expected_match(model, p, ps->end, longest);
    if (!series_end)
        series_end = any_match(model, p, ps->end, longest);
    if (!series_end)
        return NULL;
    ps->first = !ps->first;
    model->sample.changed = SGC__CHANGED_ALL; /* the sample before is of the other kind */
    family_review(ps, model);
    return model->usable ? series_end : NULL;
}

/* What follows the series, where it is more than a space, a short number and a newline. */
static const char *any_rest_read(sgc__reader *r, sgc__model *model, const char *series_end)
{
    sgc__sample *s = &model->sample;
    const char *next = sgc__rest_read(r, series_end, s);

    s->ex.labels = s->exemplar ? r->ps->labels + s->n_labels : NULL;
    model->usable = next && !s->exemplar;
    next = next ? sgc__sample_emit(r, next, s) : NULL;
    s->timestamp = NAN;
    return next;
}

const char *sgc__repeats_read(sgc__reader *r, const char *p)
{
    sgc__parser *ps = r->ps;
    const char *end = ps->end;
    uint64_t longest = ps->options.limits.label_value_length;

    while (p && p < ps->pause) {
        sgc__model *model = &ps->models[ps->first];
        sgc__sample *s = &model->sample;
        const char *series_end = NULL, *next;

        if (SGC_LIKELY(model->usable && model->expected < s->n_labels))
            series_end = expected_match(model, p, end, longest);
        if (SGC_UNLIKELY(!series_end)) {
            series_end = other_match(ps, p, longest);
            if (!series_end)
                break;
            model = &ps->models[ps->first];
            s = &model->sample;
        }
        s->labels_text = p + (s->labels_text - s->line);
        s->line = s->name.ptr = p;
        s->value_text = series_end + 1;
        next = r->short_numbers && series_end < end && *series_end == ' '
                   ? sgc__short_value(series_end + 1, end, &s->value)
                   : NULL;
        p = SGC_LIKELY(next != NULL) ? sgc__sample_emit(r, next, s) : any_rest_read(r, model, series_end);
        if (ps->scratch.used)
            sgc__arena_reset(&ps->scratch);
    }
    return p;
}
