/*
 * fold.c - a page becomes the few numbers of a plan, while it is parsed.
 *
 * Each extract gathers its series; what repeats one measurement is told apart
 * by a key of the remaining labels, in one order and with escapes resolved.
 * When the page has ended reduce.c makes one number of them.
 */
#include "fold.h"

/* ----------------------------------------------------------------- values */

bool sgc__feed_log(folder *f, const gather *g, size_t row, int64_t part)
{
    feed_log *log = f->log;

    if (log->n == log->room) {
        size_t room = sgc__grow(log->room, log->n_likely + 64);
        feed *list = sgc__resize(log->list, room, sizeof *list);
        if (!list)
            return false;
        log->list = list;
        log->room = room;
    }
    log->list[log->n] = (feed){(uint32_t)f->n_samples, (uint32_t)row, (int32_t)part,
                               (uint16_t)(g - f->gathers), (uint16_t)g->rank};
    log->spoiled |= log->list[log->n].part != part || g - f->gathers > UINT16_MAX ||
                    (g->rank >= UINT16_MAX && g->rank != UINT32_MAX); /* too large to be told */
    log->n++;
    return true;
}

static bool measure_note(folder *f, const gather *g, size_t row, const double *lowest)
{
    feed_log *log = f->log;

    if (!log)
        return true;
    if (log->n_ranks == log->ranks_room) {
        size_t room = sgc__grow(log->ranks_room, 64);
        ranks *list = sgc__resize(log->ranks, room, sizeof *list);
        if (!list)
            return false;
        log->ranks = list;
        log->ranks_room = room;
    }
    memcpy(log->ranks[log->n_ranks], lowest, sizeof *log->ranks);
    return sgc__feed_note(f, g, row, SGC__PART_MEASURE - (int64_t)log->n_ranks++);
}

void sgc__log_free(feed_log *log)
{
    sgc__release(log->list);
    sgc__release(log->ranks);
}

void sgc__entry_add(entry *e, double value)
{
    e->most = e->n && !(value > e->most) && value == value ? e->most : value;
    e->sum += value;
    e->n++;
}

bool sgc__measure_feed(folder *f, gather *g, size_t row, const double *lowest, double value)
{
    measure *m = (measure *)g->series.list + row;

    if (!m->line || sgc__is_lower(lowest, m->lowest)) {
        memcpy(m->lowest, lowest, sizeof m->lowest);
        m->value = value;
        m->line = f->n_samples;
    }
    return measure_note(f, g, row, lowest);
}

/* The sample into the row or entry g->last. */
static bool value_feed(folder *f, gather *g, const rule *r, const sgc_extract *x, const sgc__sample *s)
{
    ranks lowest = {0};

    if (!x->n_without) {
        sgc__entry_add((entry *)g->entries.list + g->last, s->value);
        return sgc__feed_note(f, g, g->last, SGC__PART_ENTRY);
    }
    return sgc__lowest_read(f, s, r->lowest, x->n_lowest, lowest) &&
           sgc__measure_feed(f, g, g->last, lowest, s->value);
}

/* The sample's labels as the page has them; empty where two such texts may say the same. */
static sgc_str labels_text(const sgc__sample *s)
{
    return (sgc_str){s->labels_text, s->layout ? (size_t)(s->value_text - s->labels_text) : 0};
}

/* Does the sample begin the row that the lead has next? It has then the same labels, so that
 * all that they tell is the same too. */
static bool begins_next_row(gather *g, const rule *r, const sgc__sample *s)
{
    table *t = &g->series;
    sgc_str labels;

    if (!t->n)
        t->lead = r->lead;
    if (!t->lead || t->n >= t->lead->n || t->index.n || s->layout != r->layout)
        return false;
    labels = ((const measure *)t->lead->list)[t->n].labels;
    return labels.len && sgc__eq(labels, labels_text(s));
}

static bool next_row_take(folder *f, gather *g, double value)
{
    measure *m;

    g->last = sgc__row_follow(&g->series);
    if (g->last == SIZE_MAX)
        return false;
    g->last_at = f->n_samples;
    m = (measure *)g->series.list + g->last;
    m->line = 0;
    return sgc__measure_feed(f, g, g->last, m->lowest, value);
}

/* The row or entry that the sample goes into; SIZE_MAX: no memory. */
static size_t value_row(folder *f, gather *g, rule *r, row_key *k, const sgc_extract *x, const sgc__sample *s)
{
    sgc_str by = sgc__rule_by(f, r, s), key;
    measure *m;
    bool fresh;
    size_t row;

    if (!by.ptr)
        return SIZE_MAX;
    if (!x->n_without)
        return sgc__row_take(&g->entries, by, false, &fresh);
    key = sgc__row_key_of(f, k, s);
    row = key.ptr ? sgc__row_of_key(k, &g->series, key, &fresh) : SIZE_MAX;
    if (row == SIZE_MAX || !fresh)
        return row;
    m = (measure *)g->series.list + row;
    m->by = sgc__arena_copy(&f->scratch, by);
    m->labels = labels_text(s);
    r->lead = &g->series;
    return m->by.ptr ? row : SIZE_MAX;
}

static bool value_take(folder *f, gather *g, rule *r, row_key *k, const sgc_extract *x, const sgc__sample *s)
{
    g->last = value_row(f, g, r, k, x, s);
    if (g->last == SIZE_MAX)
        return false;
    g->last_at = f->n_samples;
    return value_feed(f, g, r, x, s);
}

/* ------------------------------------------------------------- histograms */

/* `room` is what is made for buckets at first. */
bool sgc__bucket_push(folder *f, histogram *h, size_t room, double bound, double count)
{
    if (h->n == h->room) {
        room = h->room ? h->room * 2 : room;
        bucket *buckets = sgc__arena_alloc(&f->scratch, room, sizeof *buckets);
        if (!buckets)
            return false;
        if (h->n)
            memcpy(buckets, h->buckets, h->n * sizeof *buckets);
        h->buckets = buckets;
        h->room = room;
    }
    h->buckets[h->n++] = (bucket){bound, count};
    return true;
}

/* A new series: its group, rank and entry are told by its labels once. */
static bool histogram_start(folder *f, histogram *h, const rule *r, const sgc_extract *x,
                            const sgc__sample *s)
{
    sgc_str by = sgc__rule_by(f, r, s);

    h->sum = NAN;
    if (!by.ptr || !(h->by = sgc__arena_copy(&f->scratch, by)).ptr)
        return false;
    h->group = h->key;
    if (!x->n_without)
        return true;
    if (!sgc__key_build(f, s, &r->group) || !sgc__lowest_read(f, s, r->lowest, x->n_lowest, h->lowest))
        return false;
    h->group = sgc__arena_copy(&f->scratch, (sgc_str){f->key.ptr, f->key.len});
    return h->group.ptr != NULL;
}

/* The bound of the series' next bucket. Most likely the series before had the
 * same text in this place. NaN: le is no number. */
static bool bound_read(gather *g, size_t place, sgc_str le, double *bound)
{
    bounds_seen *seen = &g->bounds;

    if (SGC_LIKELY(place < seen->n && sgc__short_eq(seen->list[place].text, le))) {
        *bound = seen->list[place].bound;
        return true;
    }
    if (!sgc__number_read(le, bound))
        *bound = NAN;
    if (place >= seen->room) {
        size_t room = sgc__grow(seen->room, place + 32);
        struct bound_text *list = sgc__resize(seen->list, room, sizeof *list);
        if (!list)
            return false;
        seen->list = list;
        seen->room = room;
    }
    if (place > seen->n)
        return true;
    seen->list[place] = (struct bound_text){le, *bound};
    seen->n = place + 1;
    return true;
}

/* The sample into the row g->last. */
static bool histogram_feed(folder *f, gather *g, const rule *r, const sgc__sample *s)
{
    histogram *h = (histogram *)g->series.list + g->last;
    sgc_str le = SGC__STR("");
    sgc_label label;
    double bound;

    if (g->part == SGC__PART_SUM) {
        h->sum = s->value;
        return sgc__feed_note(f, g, g->last, SGC__PART_SUM);
    }
    if (g->part == SGC__PART_COUNT) {
        h->count = s->value;
        h->has_count = true;
        return sgc__feed_note(f, g, g->last, SGC__PART_COUNT);
    }
    if (r->le != UINT32_MAX) {
        label = sgc__label_at(s, r->le);
        le = sgc__plain_value(f, &label);
    }
    if (!le.ptr || !bound_read(g, h->n, le, &bound))
        return false;
    if (bound != bound) {
        h->bad_bound = true;
        return sgc__feed_note(f, g, g->last, SGC__PART_BAD);
    }
    return sgc__bucket_push(f, h, g->bounds.n, bound, s->value) &&
           sgc__feed_note(f, g, g->last, (int64_t)h->n - 1);
}

static bool row_has_key(const gather *g, size_t row, sgc_str key)
{
    return row < g->series.n && sgc__eq(sgc__row_key(&g->series, row), key);
}

static bool histogram_take(folder *f, gather *g, const rule *r, row_key *k, const sgc_extract *x,
                           const sgc__sample *s)
{
    size_t next = g->last + 1 < g->series.n ? g->last + 1 : 0;
    bool fresh = false;
    sgc_str key;

    if (g->part == SGC__PART_NONE)
        return true; /* a summary's quantile: no one can combine those */
    key = sgc__row_key_of(f, k, s);
    if (!key.ptr)
        return false;
    if (row_has_key(g, next, key)) /* sums, buckets and counts have the series in one order */
        g->last = next;
    else if (!row_has_key(g, g->last, key)) /* else its count behind its buckets */
        g->last = sgc__row_of_key(k, &g->series, key, &fresh);
    if (g->last == SIZE_MAX || (fresh && !histogram_start(f, (histogram *)g->series.list + g->last, r, x, s)))
        return false;
    g->last_at = f->n_samples;
    return histogram_feed(f, g, r, s);
}

/* ------------------------------------------------------------- each sample */

static bool is_histogram(sgc_type type)
{
    return type == SGC_TYPE_HISTOGRAM || type == SGC_TYPE_GAUGEHISTOGRAM || type == SGC_TYPE_SUMMARY;
}

static bool has_prefix(const sgc_plan *plan, sgc_str name)
{
    for (size_t i = 0; i < plan->n_prefixes; i++)
        if (sgc__starts(name, plan->prefixes[i]))
            return true;
    return false;
}

/* ------------------------------------------------------------ label extracts */

void sgc__label_turn(const folder *f, gather *g, size_t next)
{
    uint64_t run = f->n_prefixed - g->counted;

    if (run && g->last != SIZE_MAX) {
        entry *e = (entry *)g->entries.list + g->last;
        e->sum += (double)run;
        e->most = 1;
        e->n += run;
    }
    g->counted = f->n_prefixed;
    g->last = next;
}

bool sgc__labels_show(folder *f)
{
    f->shown = f->log ? f->log->n : 0;
    return sgc__feed_note(f, f->gathers, 0, SGC__PART_SHOWN);
}

static void watch_learn(const folder *f, watch *w, const sgc__sample *s)
{
    w->layout = s->layout;
    w->labels = 0;
    for (size_t i = 0; i < f->plan->n_label_extracts; i++) {
        const sgc_extract *x = &f->plan->extracts[f->plan->label_extracts[i]];
        uint32_t place = sgc__label_find(s, x->by);
        if (x->n_where)
            w->labels = UINT64_MAX;
        else if (place != UINT32_MAX)
            w->labels |= sgc__label_bit(place);
        if (i < SGC__MOST_WATCHED)
            w->places[i] = place;
    }
}

/* The watch of the sample's layout, which comes first then. */
static const watch *watch_of(folder *f, const sgc__sample *s)
{
    watch *first = &f->watches[0], found;
    size_t i = 0;

    while (i < SGC__WATCHES - 1 && (!s->layout || s->layout != f->watches[i].layout))
        i++;
    if (i || !s->layout || s->layout != first->layout) {
        found = f->watches[i];
        memmove(first + 1, first, i * sizeof *first);
        *first = found;
        if (!s->layout || s->layout != first->layout)
            watch_learn(f, first, s);
    }
    return first;
}

/* Nobody follows the table any more. */
static SGC_APART void lead_drop(folder *f, const table *t)
{
    for (size_t i = 0; i < f->plan->n_extracts; i++)
        if (f->gathers[i].series.lead == t)
            f->gathers[i].series.lead = NULL;
    for (size_t i = 0; i < f->plan->n_rules; i++)
        if (f->rules[i].lead == t)
            f->rules[i].lead = NULL;
}

static bool entry_has_key(const gather *g, size_t at, sgc_str key)
{
    return at < g->entries.n && sgc__short_eq(((const entry *)g->entries.list)[at].key, key);
}

/* The entry of a label's value, which most likely is that at `last` or the one that came
 * after it before, since values come in the same order again. SIZE_MAX: no memory. */
static size_t label_entry(gather *g, size_t last, sgc_str value)
{
    bool known = last < g->entries.n, fresh;
    size_t next = known ? ((const entry *)g->entries.list)[last].after : 0;

    if (entry_has_key(g, last, value))
        return last;
    if (entry_has_key(g, next, value))
        return next;
    next = sgc__row_take(&g->entries, value, false, &fresh);
    if (known && next != SIZE_MAX)
        ((entry *)g->entries.list)[last].after = next;
    return next;
}

/* Finds the entry of the sample's value of a label, which its extract counts for from now
 * on. False: no memory. */
static bool label_take(folder *f, uint32_t extract, const sgc__sample *s, uint32_t place)
{
    const sgc_extract *x = &f->plan->extracts[extract];
    gather *g = &f->gathers[extract];
    sgc_label label;
    sgc_str value = SGC__STR("");
    size_t next = SIZE_MAX;

    if (x->n_where && !sgc__rule_apply(f, extract, s))
        return false;
    if (place != UINT32_MAX && (!x->n_where || f->rules[f->plan->asks[extract].rule].passes)) {
        label = sgc__label_at(s, place);
        value = sgc__plain_value(f, &label);
    }
    if (!value.ptr)
        return false;
    if (value.len)
        next = label_entry(g, g->last, value);
    sgc__label_turn(f, g, next);
    return !value.len || next != SIZE_MAX;
}

/* `next`: the sample before had a prefix too. */
static bool labels_take(folder *f, const sgc__sample *s, bool next)
{
    uint64_t changed = next ? s->changed : SGC__CHANGED_ALL;
    const watch *w;

    if (changed != SGC__CHANGED_ALL && !(changed & f->watched))
        return true;
    if (!sgc__labels_show(f))
        return false;
    w = watch_of(f, s);
    f->watched = w->labels;
    for (size_t i = 0; i < f->plan->n_label_extracts; i++) {
        uint32_t at = f->plan->label_extracts[i];
        uint32_t place = i < SGC__MOST_WATCHED ? w->places[i] : sgc__label_find(s, f->plan->extracts[at].by);
        bool same = changed != SGC__CHANGED_ALL && !f->plan->extracts[at].n_where &&
                    !(changed & sgc__place_bit(place));
        const gather *g = &f->gathers[at];
        if (!same && !label_take(f, at, s, place))
            return false;
        if (g->last != SIZE_MAX && !sgc__feed_note(f, g, g->last, SGC__PART_LABEL))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ wanted */

/* `suffix` is what a sample's name has behind its family's. */
static int part_of(sgc_str suffix)
{
    if (sgc__eq(suffix, SGC__STR("_bucket")))
        return SGC__PART_BUCKET;
    if (sgc__eq(suffix, SGC__STR("_sum")) || sgc__eq(suffix, SGC__STR("_gsum")))
        return SGC__PART_SUM;
    if (sgc__eq(suffix, SGC__STR("_count")) || sgc__eq(suffix, SGC__STR("_gcount")))
        return SGC__PART_COUNT;
    return SGC__PART_NONE;
}

/* Does the sample belong to the row of the last one that was taken, its neighbour? */
static bool same_row(const folder *f, const gather *g, const rule *r, const sgc__sample *s)
{
    return s->changed != SGC__CHANGED_ALL && g->last_at && g->last_at + 1 == f->n_samples &&
           !(s->changed & r->decisive);
}

bool sgc__rank_admits(folder *f, gather *g, uint32_t rank)
{
    if (rank == g->rank)
        return true;
    if (rank > g->rank) {
        if (f->log)
            f->log->passed_over = true;
        return false;
    }
    g->rank = rank;
    g->last_at = 0;
    if (f->log)
        f->log->spoiled |= g->series.n || g->entries.n;
    if (g->series.n)
        lead_drop(f, &g->series);
    sgc__table_clear(&g->series);
    sgc__table_clear(&g->entries);
    return true;
}

static bool want_take(folder *f, const sgc__want *want, const sgc__sample *s, sgc_str family)
{
    const sgc_extract *x = &f->plan->extracts[want->extract];
    sgc__ask ask = f->plan->asks[want->extract];
    gather *g = &f->gathers[want->extract];
    rule *r = &f->rules[ask.rule];
    row_key *k = &f->keys[ask.key];
    bool histogram = x->kind == SGC_KIND_HISTOGRAM;

    if (!sgc__rank_admits(f, g, want->rank))
        return true;
    if (s->renamed && histogram)
        g->part = part_of((sgc_str){s->name.ptr + family.len, s->name.len - family.len});
    if (s->layout == r->layout && same_row(f, g, r, s)) {
        g->last_at++;
        return histogram ? histogram_feed(f, g, r, s) : value_feed(f, g, r, x, s);
    }
    g->last_at = 0;
    if (!histogram && x->n_without && begins_next_row(g, r, s))
        return next_row_take(f, g, s->value);
    if (!sgc__rule_apply(f, want->extract, s))
        return false;
    if (!r->passes)
        return true;
    return histogram ? histogram_take(f, g, r, k, x, s) : value_take(f, g, r, k, x, s);
}

static SGC_APART sgc_status sample_take(folder *f, const sgc__parser *parser, const sgc__sample *s)
{
    const sgc__family *family = &parser->families.list[s->family];
    bool in_histogram = s->renamed ? is_histogram((sgc_type)family->type) : f->in_histogram;
    sgc_kind kind = in_histogram ? SGC_KIND_HISTOGRAM : SGC_KIND_VALUE;
    bool prefixed = f->prefixed;

    if (s->renamed) {
        bool known = in_histogram && f->in_histogram && s->family == f->family;
        if (!known) { /* of a histogram all samples are wanted alike */
            f->family = s->family;
            f->in_histogram = in_histogram;
            f->want = sgc__plan_find(f->plan, in_histogram ? sgc__family_name(family) : s->name);
            f->prefixed = f->plan->n_label_extracts && has_prefix(f->plan, s->name);
        }
    }
    if (f->prefixed && !labels_take(f, s, prefixed))
        return sgc__fail_memory(f->err);
    f->n_prefixed += f->prefixed;
    for (uint32_t i = f->want; i != SGC__NO_WANT; i = f->plan->wants[i].next) {
        const sgc__want *want = &f->plan->wants[i];
        if (f->plan->extracts[want->extract].kind == kind && !want_take(f, want, s, sgc__family_name(family)))
            return sgc__fail_memory(f->err);
    }
    return SGC_OK;
}

/* Does nothing look at the sample but the counts of repeats? */
static bool is_unwanted(const folder *f, const sgc__sample *s)
{
    return f->want == SGC__NO_WANT && !s->renamed && s->changed != SGC__CHANGED_ALL &&
           !(f->prefixed && s->changed & f->watched);
}

sgc_status sgc__folder_sample(void *self, const sgc__parser *parser, const sgc__sample *s)
{
    folder *f = self;

    f->n_samples++;
    if (SGC_LIKELY(is_unwanted(f, s))) {
        f->n_prefixed += f->prefixed;
        return SGC_OK;
    }
    return sample_take(f, parser, s);
}

/* ------------------------------------------------------------------- fold */

void sgc__folder_free(folder *f)
{
    for (size_t i = 0; f->gathers && i < f->plan->n_extracts; i++) {
        sgc__table_free(&f->gathers[i].series);
        sgc__table_free(&f->gathers[i].entries);
        sgc__release(f->gathers[i].bounds.list);
    }
    sgc__release(f->gathers);
    sgc__release(f->rules);
    sgc__release(f->keys);
    sgc__buf_free(&f->key);
    sgc__arena_free(&f->scratch);
}

bool sgc__folder_init(folder *f, const sgc_plan *plan)
{
    *f = (folder){.plan = plan};
    sgc__buf_init(&f->key, SIZE_MAX);
    f->gathers = sgc__alloc(plan->n_extracts, sizeof *f->gathers);
    f->rules = sgc__alloc(plan->n_rules, sizeof *f->rules);
    f->keys = sgc__alloc(plan->n_keys, sizeof *f->keys);
    if (!f->gathers || !f->rules || !f->keys)
        return false;
    for (size_t i = 0; i < plan->n_extracts; i++) {
        const sgc_extract *x = &plan->extracts[i];
        bool histograms = x->kind == SGC_KIND_HISTOGRAM;
        gather *g = &f->gathers[i];
        g->rank = UINT32_MAX;
        g->series.arena = g->entries.arena = &f->scratch;
        g->series.size = histograms ? sizeof(histogram) : sizeof(measure);
        g->entries.size = sizeof(entry);
        f->keys[plan->asks[i].key].rule = sgc__keys_of(x);
    }
    return true;
}

/* A fold whose slots are all absent. */
static sgc_fold *fold_new(size_t n)
{
    sgc_fold *fold = sgc__alloc(1, sizeof *fold);

    if (!fold)
        return NULL;
    fold->slots = sgc__arena_alloc(&fold->arena, n, sizeof *fold->slots);
    if (!fold->slots) {
        sgc_fold_free(fold);
        return NULL;
    }
    memset(fold->slots, 0, n * sizeof *fold->slots);
    fold->n_slots = n;
    return fold;
}

sgc_fold *sgc__folder_finish(folder *f)
{
    bool ok = (f->fold = fold_new(f->plan->n_extracts)) != NULL;
    sgc_fold *fold;

    for (size_t i = 0; i < f->plan->n_label_extracts; i++) {
        gather *g = &f->gathers[f->plan->label_extracts[i]];
        sgc__label_turn(f, g, g->last);
    }
    for (size_t i = 0; ok && i < f->plan->n_extracts; i++)
        ok = sgc__slot_finish(f, i);
    sgc__arena_free(&f->end);
    if (ok)
        f->fold->n_samples = f->n_samples;
    else
        sgc_fold_free(f->fold);
    fold = ok ? f->fold : NULL;
    f->fold = NULL;
    return fold;
}

sgc_status sgc_plan_fold(const sgc_plan *plan, const char *data, size_t len, const sgc_options *options,
                         sgc_fold **out, sgc_error *err)
{
    folder f;
    sgc__parser parser = {.sample = sgc__folder_sample, .self = &f};
    sgc_status status = sgc__folder_init(&f, plan) ? SGC_OK : sgc__fail_memory(err);

    *out = NULL;
    f.err = err;
    if (status == SGC_OK)
        status = sgc__parser_run(&parser, data, len, options, err);
    if (status == SGC_OK && !(*out = sgc__folder_finish(&f)))
        status = sgc__fail_memory(err);
    sgc__parser_free(&parser);
    sgc__folder_free(&f);
    return status;
}

void sgc_fold_free(sgc_fold *fold)
{
    if (!fold)
        return;
    sgc__arena_free(&fold->arena);
    sgc__release(fold);
}

size_t sgc_fold_n_slots(const sgc_fold *fold)
{
    return fold->n_slots;
}

const sgc_slot *sgc_fold_slot(const sgc_fold *fold, size_t index)
{
    return &fold->slots[index];
}

uint64_t sgc_fold_n_samples(const sgc_fold *fold)
{
    return fold->n_samples;
}
