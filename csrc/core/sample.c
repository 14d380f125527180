/*
 * sample.c - the lines that carry values: names, labels, numbers, exemplars,
 * and the family that a sample belongs to.
 */
#include "reader.h"

/* A byte that is no UTF-8 is called that, whatever else was expected there. */
const char *sgc__fail_at(sgc__reader *r, const char *reason, const char *at)
{
    const sgc__parser *ps = r->ps;
    const char *stop = at;

    while (stop < ps->end && stop - at < 4)
        stop++;
    if (at < ps->end && sgc__utf8_fault(at, stop) == at)
        reason = "invalid UTF-8";
    else if (at < ps->end && !*at)
        reason = "NUL outside a label value";
    r->status = sgc__parser_fail(ps, reason, at);
    return NULL;
}

const char *sgc__fail_fault(sgc__reader *r, sgc__fault fault)
{
    return sgc__fail_at(r, fault.reason, fault.at);
}

static const char *limit_fail(sgc__reader *r, const char *limit, uint64_t allowed, const char *at)
{
    r->status = sgc__parser_limit(r->ps, limit, allowed, at);
    return NULL;
}

const char *sgc__reader_no_memory(sgc__reader *r)
{
    r->status = sgc__fail_memory(r->ps->err);
    return NULL;
}

/* The end of a line, from where only blanks may stand; the page may end without a newline. */
const char *sgc__line_end_read(sgc__reader *r, const char *p, const char *expected)
{
    const char *end = r->ps->end;

    if (SGC_LIKELY(p < end && *p == '\n'))
        return p + 1;
    p = sgc__blanks_read(r, p);
    if (!r->om && p < end && *p == '\r' && (p + 1 == end || p[1] == '\n'))
        p++;
    if (p == end)
        return p;
    return *p == '\n' ? p + 1 : sgc__fail_at(r, expected, p);
}

/* ------------------------------------------------------------------ names */

static bool has_nul(sgc_str text)
{
    return text.len && memchr(text.ptr, '\0', text.len);
}

/* A quoted name from its opening quote, escapes resolved; *odd where it has any. */
static const char *quoted_name_read(sgc__reader *r, const char *p, sgc_str *name, bool *odd)
{
    sgc__parser *ps = r->ps;
    const char *start = p + 1, *stop;
    bool escaped;
    sgc__fault fault;
    char *plain;

    stop = sgc__scan_quoted(start, ps->end, &escaped, &fault);
    if (!stop)
        return sgc__fail_fault(r, fault);
    *name = (sgc_str){start, (size_t)(stop - start)};
    if (!name->len)
        return sgc__fail_at(r, "expected a name inside the quotes", start);
    if (has_nul(*name))
        return sgc__fail_at(r, "NUL outside a label value", memchr(name->ptr, '\0', name->len));
    if (name->len > ps->options.limits.name_length)
        return limit_fail(r, "name_length", ps->options.limits.name_length, start);
    if (escaped) {
        *odd = true;
        plain = sgc__arena_alloc(&ps->scratch, name->len, 1);
        if (!plain)
            return sgc__reader_no_memory(r);
        *name = (sgc_str){plain, sgc_unescape(*name, plain)};
    }
    return stop + 1;
}

/* A metric name, plain or quoted. */
const char *sgc__name_read(sgc__reader *r, const char *p, sgc_str *name, bool *odd)
{
    const sgc__parser *ps = r->ps;
    const char *stop;

    if (p < ps->end && *p == '"')
        return quoted_name_read(r, p, name, odd);
    stop = sgc__scan_name(p, ps->end);
    if (stop == p)
        return sgc__fail_at(r, "expected a metric name", p);
    *name = (sgc_str){p, (size_t)(stop - p)};
    if (SGC_UNLIKELY(name->len > ps->options.limits.name_length))
        return limit_fail(r, "name_length", ps->options.limits.name_length, p);
    return stop;
}

/* ----------------------------------------------------------------- labels */

int sgc__str_order(sgc_str a, sgc_str b)
{
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

bool sgc__label_less(const void *a, const void *b)
{
    const sgc_label *const *first = a, *const *second = b;

    return sgc__str_order((*first)->name, (*second)->name) < 0;
}

/* Where the label stands: its name, or its value where escapes of the name were
 * resolved, so that it is no longer on the page. */
static const char *label_place(const sgc__parser *ps, const sgc_label *label)
{
    bool on_page = label->name.ptr >= ps->data && label->name.ptr < ps->end;

    return on_page ? label->name.ptr : label->value.ptr;
}

/* A label whose name another one has too, the later of the two. Names that rise,
 * as every SGLang page has them, are seen to be unique in passing. */
static const char *duplicate_find(sgc__reader *r, const sgc_label *labels, size_t n)
{
    sgc__parser *ps = r->ps;
    const sgc_label **list;
    size_t i = 1;

    while (i < n && sgc__str_order(labels[i - 1].name, labels[i].name) < 0)
        i++;
    if (i >= n)
        return NULL;
    list = sgc__arena_alloc(&ps->scratch, n, sizeof *list);
    if (!list) {
        sgc__reader_no_memory(r);
        return NULL;
    }
    for (i = 0; i < n; i++)
        list[i] = &labels[i];
    sgc__sort(list, n, sizeof *list, sgc__label_less);
    for (i = 1; i < n; i++)
        if (sgc__eq(list[i - 1]->name, list[i]->name))
            return label_place(ps, list[i - 1] > list[i] ? list[i - 1] : list[i]);
    return NULL;
}

bool sgc__labels_room(sgc__parser *ps, size_t n)
{
    size_t room;
    sgc_label *labels;

    if (SGC_LIKELY(n < ps->labels_room))
        return true;
    room = sgc__grow(ps->labels_room, 32);
    labels = sgc__resize(ps->labels, room, sizeof *labels);
    if (!labels)
        return false;
    ps->labels = labels;
    ps->labels_room = room;
    return true;
}

/* The nth label behind the first `base` ones. Its name is plain, or resolved
 * where the page quotes it. */
static const char *label_read(sgc__reader *r, const char *p, size_t base, size_t n, bool *odd)
{
    sgc__parser *ps = r->ps;
    const sgc_limits *limits = &ps->options.limits;
    sgc_label *label;
    sgc__fault fault;
    const char *start = p;
    bool escaped = false;

    if (n >= limits->labels_per_sample || n >= UINT16_MAX)
        return limit_fail(r, "labels_per_sample", limits->labels_per_sample, p);
    if (!sgc__labels_room(ps, base + n))
        return sgc__reader_no_memory(r);
    label = &ps->labels[base + n];
    p = sgc__scan_label(p, ps->end, !r->om, label, &escaped, &fault);
    if (!p)
        return sgc__fail_fault(r, fault);
    if (SGC_UNLIKELY(*start == '"') && !quoted_name_read(r, start, &label->name, odd))
        return NULL;
    if (SGC_UNLIKELY(label->name.len > limits->name_length))
        return limit_fail(r, "name_length", limits->name_length, start);
    if (SGC_UNLIKELY(label->value.len > limits->label_value_length))
        return limit_fail(r, "label_value_length", limits->label_value_length, label->value.ptr);
    if (SGC_UNLIKELY(sgc__eq(label->name, SGC__STR("__name__"))))
        return sgc__fail_at(r, "__name__ is not a label of the page", start);
    return p;
}

/* A quoted string among the labels that no = follows: the name of the sample. */
static bool is_quoted_name(const sgc__reader *r, const char *p)
{
    bool escaped;
    sgc__fault fault;
    const char *stop;

    if (p == r->ps->end || *p != '"')
        return false;
    stop = sgc__scan_quoted(p + 1, r->ps->end, &escaped, &fault);
    if (!stop)
        return false;
    stop = sgc__blanks_read(r, stop + 1);
    return stop < r->ps->end && (*stop == ',' || *stop == '}');
}

/* From behind the opening brace to behind the closing one; the labels go behind
 * the first `base` ones. `name` is where a quoted name may go: NULL where the
 * sample has one, or in an exemplar. */
static const char *labels_read(sgc__reader *r, const char *p, size_t base, sgc_str *name, uint32_t *n_labels,
                               const char **labels_text, bool *odd)
{
    const char *end = r->ps->end, *duplicate;
    size_t n = 0;

    *labels_text = p = sgc__blanks_read(r, p);
    while (p == end || *p != '}') {
        if (SGC_UNLIKELY(name && !name->ptr && is_quoted_name(r, p))) {
            *odd |= n > 0;
            p = quoted_name_read(r, p, name, odd);
            if (p && !n)
                *labels_text = p;
        } else {
            p = label_read(r, p, base, n, odd);
            n++;
        }
        if (!p)
            return NULL;
        p = sgc__blanks_read(r, p);
        if (p < end && *p == '}')
            break;
        if (p == end || *p != ',')
            return sgc__fail_at(r, "expected , or } after a label", p);
        /* OpenMetrics writes {"name", label="value"} with a space, and no other. */
        p = name && name->ptr && !n ? sgc__scan_blanks(p + 1, end) : sgc__blanks_read(r, p + 1);
        if (!n)
            *labels_text = p;
        if (r->strict && p < end && *p == '}')
            return sgc__fail_at(r, "expected a label after the comma", p);
    }
    *n_labels = (uint32_t)n;
    duplicate = duplicate_find(r, r->ps->labels + base, n);
    if (duplicate)
        return sgc__fail_at(r, "duplicate label", duplicate);
    return r->status == SGC_OK ? p + 1 : NULL;
}

/* ---------------------------------------------------------------- numbers */

/* OpenMetrics writes its three words one way; text 0.0.4 takes any case. */
static bool word_fits(sgc_str token, bool om)
{
    char first = token.ptr[token.ptr[0] == '+' || token.ptr[0] == '-'];

    if (!om || (first >= '0' && first <= '9') || first == '.')
        return true;
    return sgc__eq(token, SGC__STR("NaN")) || sgc__eq(token, SGC__STR("+Inf")) ||
           sgc__eq(token, SGC__STR("-Inf"));
}

bool sgc__value_token_read(sgc_str token, bool om, double *value)
{
    return sgc__number_read(token, value) && word_fits(token, om);
}

static const char *token_read(sgc__reader *r, const char *p, sgc_str *token, const char *expected)
{
    const char *stop = sgc__scan_token(p, r->ps->end);
    uint64_t allowed = r->ps->options.limits.number_length;

    *token = (sgc_str){p, (size_t)(stop - p)};
    if (SGC_UNLIKELY(stop == p))
        return sgc__fail_at(r, expected, p);
    if (SGC_UNLIKELY(token->len > allowed))
        return limit_fail(r, "number_length", allowed, p);
    return stop;
}

static const char *value_read(sgc__reader *r, const char *p, double *value)
{
    sgc_str token;
    const char *stop = token_read(r, p, &token, "expected a value");

    if (stop && !sgc__value_token_read(token, r->om, value))
        return sgc__fail_at(r, "expected a number as value", p);
    return stop;
}

/* Milliseconds in text, seconds in OpenMetrics; seconds to the receiver. */
static const char *timestamp_read(sgc__reader *r, const char *p, double *timestamp)
{
    sgc_str token;
    int64_t milliseconds;
    const char *stop = token_read(r, p, &token, "expected a timestamp");

    if (!stop)
        return NULL;
    if (r->om) {
        if (!sgc__number_read(token, timestamp) || !isfinite(*timestamp))
            return sgc__fail_at(r, "expected a timestamp in seconds", p);
    } else {
        if (!sgc__integer_read(token, &milliseconds))
            return sgc__fail_at(r, "expected a timestamp in whole milliseconds", p);
        *timestamp = (double)milliseconds / 1000.0;
    }
    return stop;
}

/* The space of OpenMetrics before a value or timestamp, or any blanks. */
const char *sgc__gap_read(sgc__reader *r, const char *p, const char *expected)
{
    if (!r->om)
        return sgc__scan_blanks(p, r->ps->end);
    return p < r->ps->end && *p == ' ' ? p + 1 : sgc__fail_at(r, expected, p);
}

/* ----------------------------------------------------------------- sample */

/* Behind "# ": labels, value and perhaps a timestamp. */
static const char *exemplar_read(sgc__reader *r, const char *p, sgc__sample *s)
{
    const char *end = r->ps->end;
    sgc__exemplar *ex = &s->ex;
    bool odd = false;

    if (p == end || *p != '{')
        return sgc__fail_at(r, "expected { of an exemplar", p);
    p = labels_read(r, p + 1, s->n_labels, NULL, &ex->n_labels, &ex->labels_text, &odd);
    if (!p)
        return NULL;
    if (odd)
        return sgc__fail_at(r, "an exemplar's label names have no escapes", ex->labels_text);
    p = sgc__gap_read(r, p, "expected a space before the exemplar's value");
    p = p ? value_read(r, p, &ex->value) : NULL;
    ex->timestamp = NAN;
    if (p && p + 1 < end && *p == ' ')
        p = timestamp_read(r, p + 1, &ex->timestamp);
    return p;
}

/* Behind the value: a timestamp perhaps, in OpenMetrics an exemplar perhaps, the
 * end of the line. */
static const char *tail_read(sgc__reader *r, const char *p, sgc__sample *s)
{
    const char *end = r->ps->end;

    s->timestamp = NAN;
    if (SGC_LIKELY(p < end && *p == '\n'))
        return p + 1;
    if (!r->om) {
        p = sgc__scan_blanks(p, end);
        if (p < end && *p != '\n' && *p != '\r')
            p = timestamp_read(r, p, &s->timestamp);
        return p ? sgc__line_end_read(r, p, "expected the end of the line after the timestamp") : NULL;
    }
    if (p + 1 < end && *p == ' ' && p[1] != '#') {
        p = timestamp_read(r, p + 1, &s->timestamp);
        if (!p)
            return NULL;
    }
    if (end - p >= 3 && p[0] == ' ' && p[1] == '#' && p[2] == ' ') {
        s->exemplar = true;
        p = exemplar_read(r, p + 3, s);
    }
    return p ? sgc__line_end_read(r, p, "expected the end of the line, a timestamp or an exemplar") : NULL;
}

/* Does the sample's name begin with the family's? prometheus_client from 0.23 on
 * writes OpenMetrics with colons in the names of families and underscores in
 * their place in those of samples. */
static bool name_begins(const sgc__parser *ps, sgc_str name, sgc_str family)
{
    bool escaped = ps->options.format == SGC_FORMAT_OPENMETRICS && !ps->strict;
    size_t i = 0;

    if (name.len < family.len)
        return false;
    while (i < family.len &&
           (name.ptr[i] == family.ptr[i] || (escaped && name.ptr[i] == '_' && family.ptr[i] == ':')))
        i++;
    return i == family.len;
}

/* The family a sample belongs to: the current one where its name fits, else the
 * one of its exact name, else the one whose type gives names that suffix, else
 * a new one that no TYPE line told of. */
bool sgc__family_resolve(sgc__parser *ps, sgc__sample *s)
{
    sgc__families *families = &ps->families;
    size_t found;

    if (SGC_LIKELY(ps->current != SIZE_MAX)) {
        const sgc__family *family = &families->list[ps->current];
        sgc_str own = sgc__family_name(family);
        if ((sgc__starts(s->name, own) || name_begins(ps, s->name, own)) &&
            sgc__suffix_fits(family->type, (sgc_str){s->name.ptr + own.len, s->name.len - own.len})) {
            s->family = (uint32_t)ps->current;
            return true;
        }
    }
    sgc__families_ahead(ps, s->line);
    found = sgc__families_find(families, s->name);
    for (size_t cut = s->name.len; found == SIZE_MAX && cut-- > 1;) {
        if (s->name.ptr[cut] != '_')
            continue;
        found = sgc__families_find(families, (sgc_str){s->name.ptr, cut});
        if (found != SIZE_MAX &&
            !sgc__suffix_fits(families->list[found].type, (sgc_str){s->name.ptr + cut, s->name.len - cut}))
            found = SIZE_MAX;
        break; /* every suffix has one underscore, in front */
    }
    if (found == SIZE_MAX)
        found = sgc__families_take(families, s->name);
    if (found == SIZE_MAX)
        return false;
    ps->current = found;
    s->family = (uint32_t)found;
    return true;
}

/* A resolved name lives in scratch, which the next sample clears: a family that
 * takes it needs a copy that stays. Such names are rare; the page's own bytes
 * hold every other. */
bool sgc__name_keep(sgc__parser *ps, sgc_str *name)
{
    if (name->ptr >= ps->data && name->ptr < ps->end)
        return true;
    *name = sgc__arena_copy(&ps->kept, *name);
    return name->ptr != NULL;
}

const char *sgc__samples_fail(sgc__reader *r, const sgc__sample *s)
{
    return limit_fail(r, "samples", r->ps->options.limits.samples, s->line);
}

bool sgc__strict_passes(sgc__reader *r, const sgc__sample *s)
{
    const char *broken = sgc__strict_sample(r->ps->strict, r->ps, s, &r->status);

    if (broken)
        sgc__fail_at(r, broken, s->line);
    else if (r->status != SGC_OK)
        sgc__reader_no_memory(r);
    return r->status == SGC_OK;
}

const char *sgc__rest_read(sgc__reader *r, const char *p, sgc__sample *s)
{
    const char *next = sgc__short_rest(r, p, &s->value);

    if (next) {
        s->value_text = p + 1;
        s->timestamp = NAN;
        return next;
    }
    s->value_text = p = sgc__gap_read(r, p, "expected a space before the value");
    p = p ? value_read(r, p, &s->value) : NULL;
    return p ? tail_read(r, p, s) : NULL;
}

/* One sample line that repeats none. */
static const char *sample_read(sgc__reader *r, const char *p)
{
    const char *end = r->ps->end, *series_end;
    sgc__sample s;

    s.line = p;
    s.name = (sgc_str){NULL, 0};
    s.n_labels = 0;
    s.layout = 0;
    s.text = NULL;
    s.changed = SGC__CHANGED_ALL;
    s.renamed = true;
    s.odd = s.exemplar = false;
    if (*p == '"')
        return sgc__fail_at(r, "a quoted name belongs inside braces", p);
    if (*p != '{')
        p = sgc__name_read(r, p, &s.name, &s.odd);
    if (!p)
        return NULL;
    s.labels_text = p;
    p = sgc__blanks_read(r, p);
    if (p == s.labels_text && (p == end || (*p != '{' && *p != ' ')))
        return sgc__fail_at(r, "expected { or a value after the name", p);
    if (p < end && *p == '{') {
        p = labels_read(r, p + 1, 0, s.name.ptr ? NULL : &s.name, &s.n_labels, &s.labels_text, &s.odd);
        if (!p)
            return NULL;
        if (!s.name.ptr)
            return sgc__fail_at(r, "expected a metric name", s.line);
    }
    series_end = p;
    p = sgc__rest_read(r, p, &s);
    if (!p)
        return NULL;
    s.labels = r->ps->labels;
    s.ex.labels = s.exemplar ? s.labels + s.n_labels : NULL;
    if (!sgc__name_keep(r->ps, &s.name) || !sgc__family_resolve(r->ps, &s))
        return sgc__reader_no_memory(r);
    sgc__model_set(r->ps, &s, series_end);
    return sgc__sample_emit(r, p, &s);
}

const char *sgc__sample_read(sgc__reader *r, const char *p)
{
    sgc__parser *ps = r->ps;
    const char *next = ps->take_known ? ps->take_known(ps->self, ps, p) : p;

    if (next != p) {
        ps->apart = true;
        return next ? next : sgc__reader_no_memory(r);
    }
    next = sgc__repeats_read(r, p);
    return next == p ? sample_read(r, p) : next;
}
