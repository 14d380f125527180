/*
 * reduce.c - the end of a fold: repeats fall away, and the series of an extract
 * become one number, one histogram or one map.
 */
#include "fold.h"

static bool bucket_less(const void *a, const void *b)
{
    return ((const bucket *)a)->bound < ((const bucket *)b)->bound;
}

/* The buckets in order of their bounds, in memory of this page alone where the
 * page has them otherwise. NULL: no memory. */
static const bucket *buckets_ordered(folder *f, const histogram *h)
{
    bucket *sorted;
    size_t i = 1;

    while (i < h->n && h->buckets[i - 1].bound < h->buckets[i].bound)
        i++;
    if (i >= h->n)
        return h->buckets;
    sorted = sgc__arena_alloc(&f->end, h->n, sizeof *sorted);
    if (!sorted)
        return NULL;
    memcpy(sorted, h->buckets, h->n * sizeof *sorted);
    sgc__sort(sorted, h->n, sizeof *sorted, bucket_less);
    return sorted;
}

/* The series as a histogram in the fold's arena; a count alone is its +Inf
 * bucket. False: no memory. */
static bool histogram_finish(folder *f, const histogram *h, sgc_hist *out)
{
    const bucket alone = {INFINITY, h->count};
    const bucket *buckets = !h->n && h->has_count ? &alone : buckets_ordered(f, h);
    size_t n = !h->n && h->has_count ? 1 : h->n;

    *out = (sgc_hist){.n = n, .sum = h->sum};
    out->bounds = sgc__arena_alloc(&f->fold->arena, n, sizeof *out->bounds);
    out->counts = sgc__arena_alloc(&f->fold->arena, n, sizeof *out->counts);
    if ((n && !buckets) || !out->bounds || !out->counts)
        return false;
    for (size_t i = 0; i < n; i++) {
        out->bounds[i] = buckets[i].bound;
        out->counts[i] = buckets[i].count;
    }
    out->count = n ? out->counts[n - 1] : 0;
    return true;
}

static const char *histogram_fault(const histogram *h, const sgc_hist *hist)
{
    const char *fault;

    if (h->bad_bound)
        return "le is not a number";
    if (h->has_count && !(h->count >= 0))
        return "the count is negative or NaN";
    fault = sgc__hist_fault(hist->bounds, hist->counts, hist->n);
    return !fault && h->has_count && h->count != hist->count ? "the count differs from the +Inf bucket"
                                                             : fault;
}

/* The answer's entry for that value of the `by` label; NULL: no memory. Where no
 * label is asked for there is only one. */
static entry *entry_take(table *entries, const sgc_extract *x, sgc_str by)
{
    bool fresh;
    size_t i = 0;

    if (x->by.len)
        i = sgc__row_take(entries, by, true, &fresh);
    else if (!entries->n)
        i = sgc__row_push(entries, by, true);
    return i == SIZE_MAX ? NULL : (entry *)entries->list + i;
}

enum { AHEAD = 8 }; /* rows that are read while what they need is loaded */

/* Adds one series to its entry. */
static bool histogram_merge(folder *f, gather *g, table *entries, const sgc_extract *x, const histogram *h)
{
    const char *fault;
    sgc_hist hist;
    entry *e;

    if (!histogram_finish(f, h, &hist))
        return false;
    fault = histogram_fault(h, &hist);
    if (fault) {
        g->reason = fault;
        return true;
    }
    e = entry_take(entries, x, h->by);
    if (!e)
        return false;
    if (!e->n++) {
        e->hist = hist;
        return true;
    }
    if (e->hist.n != hist.n || memcmp(e->hist.bounds, hist.bounds, hist.n * sizeof *hist.bounds) != 0)
        g->bounds_differ = true;
    sgc__hist_merge(&e->hist, &e->hist, &hist, 1.0);
    return true;
}

/* Of the series of one group the lowest stands; a table of measures finds it. */
static bool repeats_drop(folder *f, gather *g, bool *stands)
{
    table groups = {.arena = &f->end, .size = sizeof(measure)};
    bool ok = true;

    for (size_t i = 0; ok && i < g->series.n; i++) {
        const histogram *h = (const histogram *)g->series.list + i;
        bool fresh;
        size_t at = sgc__row_take(&groups, h->group, true, &fresh);
        measure *m;

        if (i + AHEAD < g->series.n)
            sgc__row_expect(&groups, h[AHEAD].group);
        ok = at != SIZE_MAX;
        if (!ok)
            break;
        m = (measure *)groups.list + at;
        stands[i] = fresh || sgc__is_lower(h->lowest, m->lowest);
        if (stands[i]) {
            if (!fresh)
                stands[(size_t)m->value] = false;
            m->value = (double)i;
            memcpy(m->lowest, h->lowest, sizeof m->lowest);
        }
    }
    sgc__table_free(&groups);
    return ok;
}

static bool histograms_combine(folder *f, gather *g, table *entries, const sgc_extract *x)
{
    bool *stands = NULL;

    if (x->n_without && g->series.n > 1) {
        stands = sgc__arena_alloc(&f->end, g->series.n, sizeof *stands);
        if (!stands || !repeats_drop(f, g, stands))
            return false;
    }
    for (size_t i = 0; i < g->series.n; i++) {
        const histogram *h = (const histogram *)g->series.list + i;
        if (i + AHEAD < g->series.n)
            sgc__row_expect(entries, h[AHEAD].by);
        if ((!stands || stands[i]) && !histogram_merge(f, g, entries, x, h))
            return false;
    }
    return true;
}

static double entry_value(const entry *e, sgc_reduce reduce)
{
    return reduce == SGC_REDUCE_MAX ? e->most : reduce == SGC_REDUCE_MEAN ? e->sum / (double)e->n : e->sum;
}

/* The histogram with its final bounds, in the fold's arena, or NULL: no memory. */
static const sgc_hist *hist_keep(folder *f, const entry *e)
{
    sgc_hist *hist = sgc__arena_alloc(&f->fold->arena, 1, sizeof *hist);

    if (hist)
        *hist = e->hist;
    return hist;
}

static const char nan_reason[] = "a value is NaN";

static bool map_fill(folder *f, const table *entries, const sgc_extract *x, sgc_slot *slot)
{
    const entry *list = entries->list;
    sgc_entry *out = sgc__arena_alloc(&f->fold->arena, entries->n, sizeof *out);

    if (!out)
        return false;
    slot->entries = out;
    for (size_t i = 0; i < entries->n; i++) {
        sgc_entry item = {.key = sgc__arena_copy(&f->fold->arena, list[i].key)};
        if (!item.key.ptr)
            return false;
        if (x->kind == SGC_KIND_HISTOGRAM)
            item.hist = hist_keep(f, &list[i]);
        else
            item.value = entry_value(&list[i], x->reduce);
        if (x->kind == SGC_KIND_HISTOGRAM && !item.hist)
            return false;
        if (item.hist || item.value == item.value)
            out[slot->n_entries++] = item;
        else
            slot->reason = nan_reason;
    }
    slot->kind = SGC_SLOT_MAP;
    return true;
}

static bool slot_fill(folder *f, const gather *g, const table *entries, const sgc_extract *x, sgc_slot *slot)
{
    const entry *list = entries->list;

    for (size_t i = 0; i < entries->n; i++)
        slot->n_series += list[i].n;
    slot->bounds_differ = g->bounds_differ;
    slot->reason = g->reason;
    if (!entries->n || g->reason)
        return true;
    if (x->by.len)
        return map_fill(f, entries, x, slot);
    if (x->kind == SGC_KIND_HISTOGRAM) {
        slot->hist = hist_keep(f, &list[0]);
        slot->kind = SGC_SLOT_HIST;
        return slot->hist != NULL;
    }
    slot->value = entry_value(&list[0], x->reduce);
    if (slot->value == slot->value)
        slot->kind = SGC_SLOT_VALUE;
    else
        slot->reason = nan_reason;
    return true;
}

/* Measures become entries. */
static bool measures_combine(const gather *g, table *entries, const sgc_extract *x)
{
    const measure *list = g->series.list;

    for (size_t i = 0; i < g->series.n; i++) {
        entry *e;
        if (i + AHEAD < g->series.n)
            sgc__row_expect(entries, list[i + AHEAD].by);
        e = entry_take(entries, x, list[i].by);
        if (!e)
            return false;
        sgc__entry_add(e, list[i].value);
    }
    return true;
}

bool sgc__slot_finish(folder *f, size_t i)
{
    const sgc_extract *x = &f->plan->extracts[i];
    gather *g = &f->gathers[i];
    table combined = {.arena = &f->end, .size = sizeof(entry)}, *entries = &g->entries;
    bool ok = true;

    g->reason = NULL;
    g->bounds_differ = false;
    if (g->series.n) { /* else what there is went into entries at once */
        entries = &combined;
        ok = x->kind == SGC_KIND_HISTOGRAM ? histograms_combine(f, g, entries, x)
                                           : measures_combine(g, entries, x);
    }
    ok = ok && slot_fill(f, g, entries, x, &f->fold->slots[i]);
    sgc__table_free(&combined);
    return ok;
}
