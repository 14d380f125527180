/*
 * naive.c - a fold told a second time, from the samples of a page, in the
 * simplest way there is: lists, and everything compared with everything.
 */
#include "wanted.h"

enum { SAMPLES_MAX = 600 };

typedef struct {
    sgc_str name;
    sgc_str value;
} label;

/* A sample with its labels that are not empty, in order of their names. */
typedef struct {
    sgc_str name;
    sgc_str family;
    bool in_histogram;
    double value;
    size_t n;
    label *labels;
} row;

typedef struct {
    row *rows;
    size_t n;
    sgc__arena arena;
} table;

/* Samples that became one: all of an entry, or one series. */
typedef struct {
    sgc_str key;
    const row *first; /* its labels tell the series, or the group */
    double lowest[4];
    double value;     /* a measure's */
    double sum, most; /* an entry's */
    size_t n;
    double bounds[SAMPLES_MAX], counts[SAMPLES_MAX]; /* a histogram's */
    size_t n_buckets;
    double total_sum, total;
    bool has_total, bad_bound;
} pile;

/* ------------------------------------------------------------------- rows */

static bool is_text(sgc_str text, const char *want)
{
    return text.len == strlen(want) && memcmp(text.ptr, want, text.len) == 0;
}

static int order(sgc_str a, sgc_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int by_bytes = n ? memcmp(a.ptr, b.ptr, n) : 0;

    return by_bytes ? by_bytes : (a.len > b.len) - (a.len < b.len);
}

static bool same_text(sgc_str a, sgc_str b)
{
    return order(a, b) == 0;
}

static void row_fill(table *t, const sgc_page *page, size_t index, row *r)
{
    sgc_label labels[256];
    sgc_family family;
    sgc_sample s;

    sgc_page_sample(page, index, &s);
    sgc_page_family(page, s.family, &family);
    sgc_page_labels(page, index, labels);
    *r = (row){.name = s.name, .family = family.name, .value = s.value};
    r->in_histogram = family.type == SGC_TYPE_HISTOGRAM || family.type == SGC_TYPE_GAUGEHISTOGRAM ||
                      family.type == SGC_TYPE_SUMMARY;
    r->labels = sgc__arena_alloc(&t->arena, s.n_labels, sizeof *r->labels);
    for (uint32_t i = 0; i < s.n_labels; i++) {
        char *plain = sgc__arena_alloc(&t->arena, labels[i].value.len, 1);
        label l = {labels[i].name, {plain, sgc_unescape(labels[i].value, plain)}};
        size_t at = r->n;
        if (!l.value.len)
            continue;
        for (; at && order(l.name, r->labels[at - 1].name) < 0; at--)
            r->labels[at] = r->labels[at - 1];
        r->labels[at] = l;
        r->n++;
    }
}

static sgc_str value_of(const row *r, sgc_str name)
{
    for (size_t i = 0; i < r->n; i++)
        if (same_text(r->labels[i].name, name))
            return r->labels[i].value;
    return (sgc_str){"", 0};
}

static bool listed(const sgc_str *list, size_t n, sgc_str text)
{
    for (size_t i = 0; i < n; i++)
        if (same_text(list[i], text))
            return true;
    return false;
}

/* Are two samples the same but for these labels, and `le` where that is left out? */
static bool same_but(const row *a, const row *b, const sgc_str *without, size_t n, bool le)
{
    size_t i = 0, k = 0;

    for (;;) {
        while (i < a->n &&
               (listed(without, n, a->labels[i].name) || (le && is_text(a->labels[i].name, "le"))))
            i++;
        while (k < b->n &&
               (listed(without, n, b->labels[k].name) || (le && is_text(b->labels[k].name, "le"))))
            k++;
        if (i == a->n || k == b->n)
            return i == a->n && k == b->n;
        if (!same_text(a->labels[i].name, b->labels[k].name) ||
            !same_text(a->labels[i].value, b->labels[k].value))
            return false;
        i++, k++;
    }
}

/* ---------------------------------------------------------------- choosing */

static bool full_name_is(sgc_str text, sgc_str prefix, sgc_str name)
{
    return text.len == prefix.len + name.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0 &&
           memcmp(text.ptr + prefix.len, name.ptr, name.len) == 0;
}

static bool is_of(const row *r, const sgc_extract *x, sgc_str prefix, sgc_str name)
{
    bool wants_histogram = x->kind == SGC_KIND_HISTOGRAM;

    return r->in_histogram == wants_histogram &&
           full_name_is(wants_histogram ? r->family : r->name, prefix, name);
}

static bool fits(const sgc_cond *c, sgc_str value)
{
    for (size_t i = 0; i < c->n_values; i++) {
        sgc_str want = c->values[i], part = value;
        if (want.len > value.len)
            continue;
        if (c->op == SGC_OP_ENDS)
            part.ptr += value.len - want.len;
        if (c->op != SGC_OP_IS)
            part.len = want.len;
        if (same_text(part, want))
            return !c->negate;
    }
    return c->negate;
}

static bool passes(const row *r, const sgc_extract *x)
{
    for (size_t i = 0; i < x->n_where; i++)
        if (!fits(&x->where[i], value_of(r, x->where[i].label)))
            return false;
    return true;
}

static bool prefixed(sgc_str name)
{
    for (size_t i = 0; i < wanted_n_prefixes; i++)
        if (name.len >= wanted_prefixes[i].len &&
            memcmp(name.ptr, wanted_prefixes[i].ptr, wanted_prefixes[i].len) == 0)
            return true;
    return false;
}

/* The rows that an extract takes, in page order. */
static size_t rows_choose(const table *t, const sgc_extract *x, const row **out)
{
    size_t n = 0;

    for (size_t i = 0; x->kind == SGC_KIND_LABEL && i < t->n; i++)
        if (prefixed(t->rows[i].name) && passes(&t->rows[i], x) && value_of(&t->rows[i], x->by).len)
            out[n++] = &t->rows[i];
    for (size_t k = 0; x->kind != SGC_KIND_LABEL && k < x->n_names * wanted_n_prefixes; k++) {
        bool there = false;
        for (size_t i = 0; i < t->n; i++) {
            if (!is_of(&t->rows[i], x, wanted_prefixes[k % wanted_n_prefixes],
                       x->names[k / wanted_n_prefixes]))
                continue;
            there = true;
            if (passes(&t->rows[i], x))
                out[n++] = &t->rows[i];
        }
        if (there)
            break;
    }
    return n;
}

/* --------------------------------------------------------------- combining */

static void lowest_of(const row *r, const sgc_extract *x, double *out)
{
    for (size_t i = 0; i < x->n_lowest; i++) {
        sgc_str value = value_of(r, x->lowest[i]);
        out[i] = 0;
        if (value.len && (!sgc__number_read(value, &out[i]) || isnan(out[i])))
            out[i] = INFINITY;
    }
}

static bool is_lower(const pile *a, const pile *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a->lowest[i] != b->lowest[i])
            return a->lowest[i] < b->lowest[i];
    return false;
}

static pile *pile_add(pile *piles, size_t *n, const row *first, const sgc_extract *x)
{
    pile *p = &piles[(*n)++];

    memset(p, 0, offsetof(pile, bounds));
    p->n_buckets = 0;
    p->total_sum = NAN;
    p->has_total = p->bad_bound = false;
    p->first = first;
    p->key = x->by.len ? value_of(first, x->by) : (sgc_str){"", 0};
    lowest_of(first, x, p->lowest);
    return p;
}

static pile *pile_of_key(pile *piles, size_t n, sgc_str key)
{
    for (size_t i = 0; i < n; i++)
        if (same_text(piles[i].key, key))
            return &piles[i];
    return NULL;
}

/* One pile a measurement, each with the value of its lowest rank. */
static size_t measures_make(const row **rows, size_t n_rows, const sgc_extract *x, pile *out)
{
    size_t n = 0;

    for (size_t i = 0; i < n_rows; i++) {
        pile *found = NULL, mine;
        lowest_of(rows[i], x, mine.lowest);
        for (size_t k = 0; k < n && x->n_without && !found; k++)
            if (same_but(out[k].first, rows[i], x->without, x->n_without, false))
                found = &out[k];
        if (!found) {
            found = pile_add(out, &n, rows[i], x);
        } else if (is_lower(&mine, found, x->n_lowest)) {
            memcpy(found->lowest, mine.lowest, sizeof mine.lowest);
        } else {
            continue;
        }
        found->value = x->kind == SGC_KIND_LABEL ? 1 : rows[i]->value;
    }
    return n;
}

/* Piles with the same value of `by` become one. */
static size_t entries_make(const pile *measures, size_t n_measures, const sgc_extract *x, pile *out)
{
    size_t n = 0;

    for (size_t i = 0; i < n_measures; i++) {
        pile *e = pile_of_key(out, n, measures[i].key);
        double value = measures[i].value;
        if (!e) {
            e = pile_add(out, &n, measures[i].first, x);
            e->most = value;
        }
        e->most = isnan(e->most) || isnan(value) ? NAN : value > e->most ? value : e->most;
        e->sum += value;
        e->n++;
    }
    return n;
}

static double entry_value(const pile *e, sgc_reduce reduce)
{
    return reduce == SGC_REDUCE_SUM ? e->sum : reduce == SGC_REDUCE_MEAN ? e->sum / (double)e->n : e->most;
}

/* -------------------------------------------------------------- histograms */

static void bucket_add(pile *h, sgc_str le, double count)
{
    double bound;
    size_t at = h->n_buckets;

    if (!sgc__number_read(le, &bound) || isnan(bound)) {
        h->bad_bound = true;
        return;
    }
    for (; at && bound < h->bounds[at - 1]; at--) {
        h->bounds[at] = h->bounds[at - 1];
        h->counts[at] = h->counts[at - 1];
    }
    h->bounds[at] = bound;
    h->counts[at] = count;
    h->n_buckets++;
}

/* One pile a series: what has the same labels but le. */
static size_t series_make(const row **rows, size_t n_rows, const sgc_extract *x, pile *out)
{
    size_t n = 0;

    for (size_t i = 0; i < n_rows; i++) {
        const row *r = rows[i];
        sgc_str suffix = {r->name.ptr + r->family.len, r->name.len - r->family.len};
        pile *h = NULL;
        if (!suffix.len || is_text(suffix, "_created"))
            continue;
        for (size_t k = 0; k < n && !h; k++)
            if (same_but(out[k].first, r, NULL, 0, true))
                h = &out[k];
        if (!h)
            h = pile_add(out, &n, r, x);
        if (is_text(suffix, "_sum") || is_text(suffix, "_gsum")) {
            h->total_sum = r->value;
        } else if (is_text(suffix, "_count") || is_text(suffix, "_gcount")) {
            h->total = r->value;
            h->has_total = true;
        } else {
            bucket_add(h, value_of(r, (sgc_str){"le", 2}), r->value);
        }
    }
    for (size_t i = 0; i < n; i++)
        if (!out[i].n_buckets && out[i].has_total) {
            out[i].bounds[0] = INFINITY;
            out[i].counts[0] = out[i].total;
            out[i].n_buckets = 1;
        }
    return n;
}

static bool is_sound(const pile *h)
{
    bool sound =
        !h->bad_bound && h->n_buckets && h->bounds[h->n_buckets - 1] == INFINITY && h->counts[0] >= 0;

    for (size_t i = 1; sound && i < h->n_buckets; i++)
        sound = h->bounds[i] > h->bounds[i - 1] && h->counts[i] >= h->counts[i - 1];
    return sound && (!h->has_total || h->total == h->counts[h->n_buckets - 1]);
}

/* Of the series that repeat one measurement, does this one stand? */
static bool stands(const pile *series, size_t n, size_t i, const sgc_extract *x)
{
    for (size_t k = 0; x->n_without && k < n; k++) {
        if (k == i || !same_but(series[k].first, series[i].first, x->without, x->n_without, true))
            continue;
        if (is_lower(&series[k], &series[i], x->n_lowest) ||
            (k < i && !is_lower(&series[i], &series[k], x->n_lowest)))
            return false;
    }
    return true;
}

static bool bounds_equal(const pile *a, const pile *b)
{
    return a->n_buckets == b->n_buckets &&
           memcmp(a->bounds, b->bounds, a->n_buckets * sizeof *a->bounds) == 0;
}

static void bounds_share(pile *e, const pile *h)
{
    size_t n = 0;

    for (size_t i = 0; i < e->n_buckets; i++)
        for (size_t k = 0; k < h->n_buckets; k++)
            if (e->bounds[i] == h->bounds[k]) {
                e->bounds[n] = e->bounds[i];
                e->counts[n++] = e->counts[i] + h->counts[k];
            }
    e->n_buckets = n;
    e->total_sum += h->total_sum;
}

/* ---------------------------------------------------------------- comparing */

static bool same_number(double a, double b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static void hist_compare(const sgc_hist *got, const pile *want)
{
    MUST(got && got->n == want->n_buckets && same_number(got->sum, want->total_sum));
    MUST(got->count == want->counts[want->n_buckets - 1]);
    for (size_t i = 0; i < got->n; i++)
        MUST(same_number(got->bounds[i], want->bounds[i]) && same_number(got->counts[i], want->counts[i]));
}

static void values_compare(const sgc_slot *slot, const pile *entries, size_t n, const sgc_extract *x)
{
    size_t at = 0;
    bool whole = true;

    if (!x->by.len) {
        double value = entry_value(&entries[0], x->reduce);
        MUST(slot->kind == (isnan(value) ? SGC_SLOT_ABSENT : SGC_SLOT_VALUE) &&
             (slot->reason != NULL) == isnan(value));
        MUST(isnan(value) || same_number(slot->value, value));
        return;
    }
    MUST(slot->kind == SGC_SLOT_MAP);
    for (size_t i = 0; i < n; i++) {
        double value = entry_value(&entries[i], x->reduce);
        whole &= !isnan(value);
        if (isnan(value))
            continue;
        MUST(at < slot->n_entries && same_text(slot->entries[at].key, entries[i].key));
        MUST(!slot->entries[at].hist && same_number(slot->entries[at].value, value));
        at++;
    }
    MUST(at == slot->n_entries && !slot->reason == whole);
}

static void histograms_compare(const sgc_slot *slot, const pile *entries, size_t n, const sgc_extract *x)
{
    if (!x->by.len) {
        MUST(slot->kind == SGC_SLOT_HIST);
        hist_compare(slot->hist, &entries[0]);
        return;
    }
    MUST(slot->kind == SGC_SLOT_MAP && slot->n_entries == n);
    for (size_t i = 0; i < n; i++) {
        MUST(same_text(slot->entries[i].key, entries[i].key));
        hist_compare(slot->entries[i].hist, &entries[i]);
    }
}

static pile first_piles[SAMPLES_MAX], second_piles[SAMPLES_MAX];

static void histogram_slot_check(const sgc_slot *slot, const sgc_extract *x, const row **rows, size_t n_rows)
{
    size_t n_series = series_make(rows, n_rows, x, first_piles), n = 0, combined = 0;
    bool broken = false, differ = false;

    for (size_t i = 0; i < n_series; i++) {
        const pile *h = &first_piles[i];
        pile *e;
        if (!stands(first_piles, n_series, i, x))
            continue;
        if (!is_sound(h)) {
            broken = true;
            continue;
        }
        combined++;
        e = pile_of_key(second_piles, n, h->key);
        if (!e) {
            second_piles[n++] = *h;
        } else {
            differ |= !bounds_equal(e, h);
            bounds_share(e, h);
        }
    }
    MUST(slot->n_series == combined && (slot->reason != NULL) == broken && slot->bounds_differ == differ);
    if (broken || !n)
        MUST(slot->kind == SGC_SLOT_ABSENT);
    else
        histograms_compare(slot, second_piles, n, x);
}

static void value_slot_check(const sgc_slot *slot, const sgc_extract *x, const row **rows, size_t n_rows)
{
    size_t n_measures = measures_make(rows, n_rows, x, first_piles);
    size_t n = entries_make(first_piles, n_measures, x, second_piles);

    MUST(slot->n_series == n_measures && !slot->bounds_differ);
    if (n)
        values_compare(slot, second_piles, n, x);
    else
        MUST(slot->kind == SGC_SLOT_ABSENT && !slot->reason);
}

/* ---------------------------------------------------------------- TYPE lines */

static const char *blanks_skip(const char *p, const char *stop)
{
    while (p < stop && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* The family that a TYPE line is about; ptr NULL: it is no such line. */
static sgc_str typed_family(const char *p, const char *stop)
{
    const char *start;

    if (p == stop || *p++ != '#')
        return (sgc_str){NULL, 0};
    p = blanks_skip(p, stop);
    if (stop - p < 5 || memcmp(p, "TYPE", 4) != 0)
        return (sgc_str){NULL, 0};
    p = blanks_skip(p + 4, stop);
    if (p < stop && *p == '"') {
        start = ++p;
        while (p < stop && *p != '"')
            p++;
    } else {
        start = p;
        while (p < stop && *p != ' ' && *p != '\t')
            p++;
    }
    return (sgc_str){start, (size_t)(p - start)};
}

/* Does a TYPE line come behind samples of its family, or behind another one? */
static bool types_change(const sgc_page *page, const char *data, size_t len)
{
    const char *p = data, *end = data + len, *stop;
    bool typed[256] = {false};

    if (sgc_page_n_families(page) > sizeof typed)
        return true;
    for (; p < end; p = stop + 1) {
        sgc_str name;
        sgc_family family;
        sgc_sample s;
        size_t at;
        stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            stop = end;
        name = typed_family(blanks_skip(p, stop), stop);
        if (!name.ptr)
            continue;
        at = sgc_page_find(page, name);
        if (at == SIZE_MAX || typed[at])
            return true; /* a name with escapes, or a second line */
        typed[at] = true;
        sgc_page_family(page, at, &family);
        if (!family.n_samples)
            continue;
        sgc_page_sample(page, family.first, &s);
        if (s.name.ptr < p || s.name.ptr > end)
            return true;
    }
    return false;
}

void naive_check(const sgc_fold *fold, const sgc_page *page, const char *data, size_t len)
{
    static const row *chosen[SAMPLES_MAX];
    static row rows[SAMPLES_MAX];
    table t = {.rows = rows, .n = sgc_page_n_samples(page)};

    MUST(sgc_fold_n_slots(fold) == wanted_n_extracts && sgc_fold_n_samples(fold) == t.n);
    if (t.n > SAMPLES_MAX || types_change(page, data, len))
        return;
    for (size_t i = 0; i < t.n; i++)
        row_fill(&t, page, i, &rows[i]);
    for (size_t i = 0; i < wanted_n_extracts; i++) {
        const sgc_extract *x = &wanted_extracts[i];
        size_t n = rows_choose(&t, x, chosen);
        if (x->kind == SGC_KIND_HISTOGRAM)
            histogram_slot_check(sgc_fold_slot(fold, i), x, chosen, n);
        else
            value_slot_check(sgc_fold_slot(fold, i), x, chosen, n);
    }
    sgc__arena_free(&t.arena);
}
