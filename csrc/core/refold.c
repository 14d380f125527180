/*
 * refold.c - what a known line does to the gathers depends on its text alone,
 * and on its family, which steady.c has compared: so that on another page it
 * does the same again. Only where its rows stand may differ.
 */
#include "refold.h"

static size_t rows_of(const gather *g)
{
    return g->series.n ? g->series.n : g->entries.n;
}

bool sgc__refold_init(refold *re, folder *f, const folder *from, const feed_log *log)
{
    size_t n = from->plan->n_extracts, all = 0;

    *re = (refold){.f = f, .from = from, .log = log, .shown = SIZE_MAX};
    re->first = sgc__resize(NULL, n, sizeof *re->first);
    for (size_t i = 0; re->first && i < n; i++) {
        re->first[i] = all;
        all += rows_of(&from->gathers[i]);
    }
    re->rows = re->first ? sgc__resize(NULL, all, sizeof *re->rows) : NULL;
    if (!re->rows)
        return false;
    memset(re->rows, 0xff, all * sizeof *re->rows);
    return true;
}

void sgc__refold_free(refold *re)
{
    sgc__release(re->rows);
    sgc__release(re->first);
}

static size_t entry_make(gather *g, const entry *old)
{
    bool fresh;

    return sgc__row_take(&g->entries, old->key, false, &fresh);
}

static bool measure_begin(folder *f, measure *m, const measure *old)
{
    m->by = sgc__arena_copy(&f->scratch, old->by);
    return m->by.ptr != NULL;
}

static size_t measure_make(folder *f, gather *g, const measure *old)
{
    bool fresh;
    size_t row = sgc__row_take(&g->series, old->key, false, &fresh);

    if (row == SIZE_MAX || !fresh || measure_begin(f, (measure *)g->series.list + row, old))
        return row;
    return SIZE_MAX;
}

static bool histogram_begin(folder *f, histogram *h, const histogram *old)
{
    h->sum = NAN;
    h->by = sgc__arena_copy(&f->scratch, old->by);
    h->group = sgc__arena_copy(&f->scratch, old->group);
    memcpy(h->lowest, old->lowest, sizeof h->lowest);
    return h->by.ptr && h->group.ptr;
}

static size_t histogram_make(folder *f, gather *g, const histogram *old)
{
    bool fresh;
    size_t row = sgc__row_take(&g->series, old->key, false, &fresh);

    if (row == SIZE_MAX || !fresh || histogram_begin(f, (histogram *)g->series.list + row, old))
        return row;
    return SIZE_MAX;
}

static size_t row_make(refold *re, const feed *feed)
{
    gather *g = &re->f->gathers[feed->gather];
    const gather *old = &re->from->gathers[feed->gather];

    if (feed->part == SGC__PART_ENTRY || feed->part == SGC__PART_LABEL)
        return entry_make(g, (const entry *)old->entries.list + feed->row);
    if (feed->part <= SGC__PART_MEASURE)
        return measure_make(re->f, g, (const measure *)old->series.list + feed->row);
    return histogram_make(re->f, g, (const histogram *)old->series.list + feed->row);
}

/* Where the row that was fed stands now; SIZE_MAX: no memory. */
static size_t row_find(refold *re, const feed *feed)
{
    uint32_t *known = &re->rows[re->first[feed->gather] + feed->row];
    size_t row;

    if (SGC_LIKELY(*known != UINT32_MAX && !re->f->log->spoiled))
        return *known;
    row = row_make(re, feed);
    *known = (uint32_t)row;
    return row;
}

static bool histogram_feed(refold *re, gather *g, const feed *feed, size_t row, double value)
{
    const histogram *old = (const histogram *)re->from->gathers[feed->gather].series.list + feed->row;
    histogram *h = (histogram *)g->series.list + row;

    if (feed->part >= SGC__PART_BUCKET)
        return sgc__bucket_push(re->f, h, old->n, old->buckets[feed->part].bound, value) &&
               sgc__feed_note(re->f, g, row, (int64_t)h->n - 1);
    if (feed->part == SGC__PART_SUM)
        h->sum = value;
    else if (feed->part == SGC__PART_BAD)
        h->bad_bound = true;
    else
        h->count = value, h->has_count = true;
    return sgc__feed_note(re->f, g, row, feed->part);
}

static bool feed_again(refold *re, const feed *feed, double value)
{
    gather *g = &re->f->gathers[feed->gather];
    size_t row;

    if (!sgc__rank_admits(re->f, g, feed->rank))
        return true;
    row = row_find(re, feed);
    if (row == SIZE_MAX)
        return false;
    if (feed->part <= SGC__PART_MEASURE)
        return sgc__measure_feed(re->f, g, row, re->log->ranks[SGC__PART_MEASURE - feed->part], value);
    if (feed->part != SGC__PART_ENTRY)
        return histogram_feed(re, g, feed, row, value);
    sgc__entry_add((entry *)g->entries.list + row, value);
    return sgc__feed_note(re->f, g, row, SGC__PART_ENTRY);
}

/* Shows the sample to the label extracts, where it is not shown as the last one was. */
static bool labels_again(refold *re, size_t shown)
{
    folder *f = re->f;

    if (SGC_LIKELY(shown == re->shown))
        return true;
    if (!sgc__labels_show(f))
        return false;
    re->shown = shown;
    for (size_t i = 0; i < f->plan->n_label_extracts; i++)
        sgc__label_turn(f, &f->gathers[f->plan->label_extracts[i]], SIZE_MAX);
    for (size_t i = shown + 1; i < re->log->n && re->log->list[i].part == SGC__PART_LABEL; i++) {
        gather *g = &f->gathers[re->log->list[i].gather];
        g->last = row_find(re, &re->log->list[i]);
        if (g->last == SIZE_MAX || !sgc__feed_note(f, g, g->last, SGC__PART_LABEL))
            return false;
    }
    return true;
}

bool sgc__refold_line(refold *re, uint32_t line, size_t feeds, size_t shown, double value)
{
    re->f->n_samples++;
    if (shown != SGC__NOT_SHOWN) {
        if (!labels_again(re, shown))
            return false;
        re->f->n_prefixed++;
    }
    for (size_t i = feeds; i < re->log->n && re->log->list[i].line == line; i++) {
        const feed *feed = &re->log->list[i];
        if (feed->part != SGC__PART_SHOWN && feed->part != SGC__PART_LABEL && !feed_again(re, feed, value))
            return false;
    }
    return true;
}
