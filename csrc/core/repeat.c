/*
 * repeat.c - the sample line that is one before with another name or other label
 * values.
 *
 * On a real page nearly every line is: the buckets of a histogram differ in le,
 * the series of a family in a rank, gauges in their names. What equals the line
 * before has been checked with it, so that comparing is all there is to do; only
 * the name and the values that differ are looked at. A line that differs in
 * anything else, or holds escapes or text beyond ASCII where it differs, is left
 * to sample.c.
 *
 * Which value differs is mostly the same from line to line, so that one is
 * tried first: two comparisons of lengths that the CPU has seen before. The
 * buckets and the count of a histogram may take turns, and some families have a
 * label more than others, so that a few lines are kept to compare with.
 */
#include "reader.h"

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

/* The i-th model in order becomes the first. */
static sgc__model *to_front(sgc__parser *ps, int i)
{
    sgc__model *model = ps->order[i];

    memmove(&ps->order[1], &ps->order[0], (size_t)i * sizeof *ps->order);
    return ps->order[0] = model;
}

/* The one that a new model takes the place of: one of no use, or the last. */
static sgc__model *model_choose(sgc__parser *ps)
{
    int i = 0;

    while (i < SGC__MODELS - 1 && ps->order[i]->usable)
        i++;
    return to_front(ps, i);
}

void sgc__model_set(sgc__parser *ps, sgc__sample *s, const char *series_end)
{
    sgc__model *model;
    size_t len = (size_t)(series_end - s->line);

    ps->retold = false;
    ps->apart = s->odd || s->exemplar || !s->n_labels || s->name.ptr != s->line || len >= UINT32_MAX;
    if (ps->apart)
        return;
    model = model_choose(ps);
    model->usable = spans_room(model, s->n_labels);
    if (!model->usable)
        return; /* without memory for it the next line is read as any other */
    s->layout = ++ps->n_layouts;
    s->text = s->line;
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

static void spans_shift(sgc__span *span, const sgc__span *end, uint32_t shift)
{
    for (; shift && span < end; span++) {
        span->name_at += shift;
        span->value_at += shift;
    }
}

/* The sample is that of the line at p, with a name as long as before. */
static inline void sample_move(sgc__sample *s, const char *p)
{
    s->labels_text = p + (s->labels_text - s->line);
    s->line = s->name.ptr = p;
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
    s->renamed = false;
    s->text = p;
    s->moved += (uint32_t)len - span->value_len;
    s->moved_from = model->expected + 1;
    model->series_len += (uint32_t)len - span->value_len;
    span->value_len = (uint32_t)len;
    span->escaped = false;
    sample_move(s, p);
    return stop + tail;
}

enum { MOST_CHANGES = 16 };

/* A label whose value is another than the model's, and how long it is. */
typedef struct {
    sgc__span *span;
    uint32_t len;
} change;

/* The lines part at p, which is `at` in the model's. Returns the end of the value that
 * stands there; NULL: they do not part inside a value, or it is not plain ASCII, or too
 * long. Where the equal part may end inside a character, the value would have to be
 * read from its beginning. */
static const char *change_read(change *c, uint32_t at, const char *p, const char *end, uint64_t longest)
{
    const sgc__span *span = c->span;
    const char *stop;

    if (at < span->value_at || span->escaped || (at > span->value_at && (unsigned char)p[-1] >= 0x80))
        return NULL;
    stop = sgc__plain_end(p, end);
    if (stop == end || *stop != '"' || (uint64_t)(stop - p) > longest)
        return NULL;
    c->len = at - span->value_at + (uint32_t)(stop - p);
    return c->len <= longest ? stop : NULL;
}

/* Makes the model's spans those of a line that stands `shift` behind it before its
 * labels. Distances wrap around, so that they may be negative. */
static void changes_make(sgc__model *model, const change *changes, size_t n, uint32_t shift)
{
    sgc__sample *s = &model->sample;
    sgc__span *span = model->spans, *last = span + s->n_labels;

    s->changed = 0;
    for (size_t i = 0; i < n; i++) {
        sgc__span *changed = changes[i].span;
        spans_shift(span, changed + 1, shift);
        shift += changes[i].len - changed->value_len;
        changed->value_len = changes[i].len;
        span = changed + 1;
        s->changed |= sgc__label_bit((uint32_t)(changed - model->spans));
    }
    spans_shift(span, last, shift);
    model->series_len += shift;
    if (n && (model->expected >= 63 || !(s->changed & sgc__label_bit(model->expected))))
        model->expected = (uint32_t)(span - 1 - model->spans);
}

/* Compares the line, whose plain name ends at p, with the model's from behind their
 * names on, and makes the model that of the line. Returns the end of the series; NULL
 * where it does not fit. */
static const char *labels_match(sgc__model *model, const char *line, const char *p, const char *end,
                                uint64_t longest)
{
    sgc__sample *s = &model->sample;
    const char *old = s->line + s->name.len, *old_end = s->line + model->series_len;
    sgc__span *span = model->spans, *last = span + s->n_labels;
    uint32_t shift = (uint32_t)(p - line) - (uint32_t)s->name.len;
    change changes[MOST_CHANGES];
    size_t n = 0;

    spans_shift(span + s->moved_from, last, s->moved);
    s->moved = s->moved_from = 0;
    for (;;) {
        size_t left = (size_t)(old_end - old), room = (size_t)(end - p);
        size_t same = sgc__common_prefix(p, old, left < room ? left : room);
        uint32_t at = (uint32_t)(old - s->line) + (uint32_t)same;

        p += same;
        if (same == left)
            break;
        while (span < last && span->value_at + span->value_len < at)
            span++;
        if (span == last || n == MOST_CHANGES)
            return NULL;
        changes[n].span = span++;
        p = change_read(&changes[n], at, p, end, longest);
        if (!p)
            return NULL;
        old = s->line + changes[n].span->value_at + changes[n].span->value_len;
        n++;
    }
    if ((uint64_t)(p - line) >= UINT32_MAX)
        return NULL;
    changes_make(model, changes, n, shift);
    return p;
}

/* The sample is that of the line which that name begins, and whose labels are the
 * model's. Is it the `last` line's model? False: no memory. */
static bool sample_renew(sgc__parser *ps, sgc__sample *s, sgc_str name, bool last)
{
    if (s->changed)
        s->text = name.ptr;
    if (!last || ps->apart)
        s->changed = SGC__CHANGED_ALL; /* the sample before is of another layout */
    s->renamed = !last || ps->retold || ps->apart || s->family != ps->current || !sgc__eq(name, s->name);
    ps->apart = ps->retold = false;
    sample_move(s, name.ptr);
    s->labels_text += (ptrdiff_t)name.len - (ptrdiff_t)s->name.len;
    s->name.len = name.len;
    return !s->renamed || sgc__family_resolve(ps, s);
}

/* The series of the line at p by any label of any model, which is then the first. */
static SGC_APART const char *any_match(sgc__parser *ps, const char *p, uint64_t longest)
{
    sgc_str name = {p, 0};

    for (int i = 0; i < SGC__MODELS; i++) {
        sgc__model *model = ps->order[i];
        const char *series_end;
        if (!model->usable)
            continue;
        if (!name.len)
            name.len = (size_t)(sgc__scan_name(p, ps->end) - p);
        if (!name.len || name.len > ps->options.limits.name_length)
            return NULL;
        series_end = labels_match(model, p, p + name.len, ps->end, longest);
        if (!series_end)
            continue;
        to_front(ps, i);
        model->usable = sample_renew(ps, &model->sample, name, i == 0);
        return model->usable ? series_end : NULL;
    }
    return NULL;
}

/* What follows the series, where it is more than a space, a short number and a newline. */
static SGC_APART const char *any_rest_read(sgc__reader *r, sgc__model *model, const char *series_end)
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

    do {
        sgc__model *model = ps->order[0];
        sgc__sample *s = &model->sample;
        const char *series_end = NULL, *next;

        if (SGC_LIKELY(model->usable && model->expected < s->n_labels && !ps->retold && !ps->apart))
            series_end = expected_match(model, p, end, longest);
        if (SGC_UNLIKELY(!series_end)) {
            series_end = any_match(ps, p, longest);
            if (!series_end)
                return p;
            model = ps->order[0];
            s = &model->sample;
        }
        s->value_text = series_end + 1;
        next = sgc__short_rest(r, series_end, &s->value);
        p = SGC_LIKELY(next != NULL) ? sgc__sample_emit(r, next, s) : any_rest_read(r, model, series_end);
        if (ps->scratch.used)
            sgc__arena_reset(&ps->scratch);
    } while (p && p < ps->pause);
    return p;
}
