/*
 * fold.c - a page becomes the few numbers of a plan, while it is parsed.
 *
 * Each extract gathers its series; what repeats one measurement is told apart
 * by a key of the remaining labels, in one order and with escapes resolved.
 * When the page has ended reduce.c makes one number of them.
 */
#include "fold.h"

/* ----------------------------------------------------------------- tables */

sgc_str sgc__measure_key(const void *owner, size_t i)
{
    return ((const measure *)((const table *)owner)->list)[i].key;
}

static sgc_str histogram_key(const void *owner, size_t i)
{
    return ((const histogram *)((const table *)owner)->list)[i].key;
}

sgc_str sgc__entry_key(const void *owner, size_t i)
{
    return ((const entry *)((const table *)owner)->list)[i].key;
}

size_t sgc__row_take(sgc__arena *arena, table *t, sgc_str key, size_t size, sgc__key_at key_at, bool *fresh)
{
    size_t found = sgc__index_find(&t->index, key, key_at, t);
    sgc_str copy;

    *fresh = found == SIZE_MAX;
    if (!*fresh)
        return found;
    if (t->n == t->room) {
        size_t room = sgc__grow(t->room, 8);
        void *list = sgc__resize(t->list, room, size);
        if (!list)
            return SIZE_MAX;
        t->list = list;
        t->room = room;
    }
    copy = sgc__arena_copy(arena, key);
    if (!copy.ptr)
        return SIZE_MAX;
    memset((char *)t->list + t->n * size, 0, size);
    memcpy((char *)t->list + t->n * size, &copy, sizeof copy);
    if (!sgc__index_add(&t->index, copy, key_at, t))
        return SIZE_MAX;
    return t->n++;
}

void sgc__table_clear(table *t)
{
    t->n = 0;
    sgc__index_clear(&t->index);
}

void sgc__table_free(table *t)
{
    sgc__release(t->list);
    sgc__index_free(&t->index);
}

/* ----------------------------------------------------------------- labels */

static bool contains(const sgc_str *list, size_t n, sgc_str text)
{
    for (size_t i = 0; i < n; i++)
        if (sgc__eq(list[i], text))
            return true;
    return false;
}

/* The label's value with escapes resolved; ptr NULL: out of memory. */
static sgc_str plain_value(folder *f, const sgc_label *label)
{
    char *plain;

    if (SGC_LIKELY(!label->escaped))
        return label->value;
    plain = sgc__arena_alloc(&f->scratch, label->value.len, 1);
    if (!plain)
        return (sgc_str){NULL, 0};
    return (sgc_str){plain, sgc_unescape(label->value, plain)};
}

/* The value of a label; "" where the sample has none; ptr NULL: out of memory. */
static sgc_str value_of(folder *f, const sgc__sample *s, sgc_str name)
{
    for (uint32_t i = 0; i < s->n_labels; i++) {
        sgc_label label = sgc__label_at(s, i);
        if (sgc__eq(label.name, name))
            return plain_value(f, &label);
    }
    return SGC__STR("");
}

/* Appends a label to the key, between bytes that no UTF-8 text has. */
static sgc_status key_append(folder *f, const sgc_label *label)
{
    sgc_str value = plain_value(f, label);
    sgc_status status = value.ptr ? SGC_OK : SGC_NOMEM;

    if (status == SGC_OK && value.len) {
        status = sgc__buf_append(&f->key, label->name.ptr, label->name.len);
        if (status == SGC_OK)
            status = sgc__buf_append(&f->key, "\xff", 1);
        if (status == SGC_OK)
            status = sgc__buf_append(&f->key, value.ptr, value.len);
        if (status == SGC_OK)
            status = sgc__buf_append(&f->key, "\xfe", 1);
    }
    return status;
}

/* The labels in order of their names, in scratch; NULL: no memory. */
static const sgc_label **labels_ordered(folder *f, const sgc__sample *s)
{
    const sgc_label **list = sgc__arena_alloc(&f->scratch, s->n_labels, sizeof *list);
    sgc_label *labels = sgc__arena_alloc(&f->scratch, s->n_labels, sizeof *labels);
    bool ordered = true;

    if (!list || !labels)
        return NULL;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        labels[i] = sgc__label_at(s, i);
        list[i] = &labels[i];
        ordered = ordered && (!i || sgc__str_order(labels[i - 1].name, labels[i].name) < 0);
    }
    if (!ordered)
        sgc__sort(list, s->n_labels, sizeof *list, sgc__label_less);
    return list;
}

/* Builds the key of a sample in f->key: every label that is not empty, not in
 * `without` and not `le` where that is left out. */
static bool key_build(folder *f, const sgc__sample *s, const sgc_str *without, size_t n_without, bool skip_le)
{
    const sgc_label **list;
    sgc__arena mark = f->scratch;

    sgc__buf_reset(&f->key);
    list = labels_ordered(f, s);
    if (!list)
        return false;
    for (uint32_t i = 0; i < s->n_labels; i++) {
        if ((skip_le && sgc__eq(list[i]->name, SGC__STR("le"))) || contains(without, n_without, list[i]->name))
            continue;
        if (key_append(f, list[i]) != SGC_OK)
            return false;
    }
    if (mark.chunk == f->scratch.chunk) /* what this line needed goes back */
        f->scratch.used = mark.used;
    return true;
}

/* Ranks to compare by: an absent label is 0, one that is no number comes last. */
static bool lowest_read(folder *f, const sgc__sample *s, const sgc_extract *x, double *lowest)
{
    for (size_t i = 0; i < x->n_lowest; i++) {
        sgc_str value = value_of(f, s, x->lowest[i]);
        if (!value.ptr)
            return false;
        lowest[i] = 0;
        if (value.len && (!sgc__number_read(value, &lowest[i]) || lowest[i] != lowest[i]))
            lowest[i] = INFINITY;
    }
    return true;
}

bool sgc__is_lower(const double *a, const double *b)
{
    for (int i = 0; i < SGC__LOWEST_MAX; i++)
        if (a[i] != b[i])
            return a[i] < b[i];
    return false;
}

static bool condition_holds(const sgc_cond *cond, sgc_str value)
{
    for (size_t i = 0; i < cond->n_values; i++) {
        sgc_str want = cond->values[i];
        if (cond->op == SGC_OP_IS       ? sgc__eq(value, want)
            : cond->op == SGC_OP_STARTS ? sgc__starts(value, want)
                                        : sgc__ends(value, want))
            return !cond->negate;
    }
    return cond->negate;
}

/* Does the sample pass every condition? *failed: out of memory. */
static bool sample_passes(folder *f, const sgc__sample *s, const sgc_extract *x, bool *failed)
{
    for (size_t i = 0; i < x->n_where; i++) {
        sgc_str value = value_of(f, s, x->where[i].label);
        if (!value.ptr) {
            *failed = true;
            return false;
        }
        if (!condition_holds(&x->where[i], value))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------------- values */

/* Notes where the value of the current sample goes. */
static bool feed_note(folder *f, const gather *g, size_t row, int64_t part)
{
    feed_log *log = f->log;

    if (!log)
        return true;
    if (log->n == log->room) {
        size_t room = sgc__grow(log->room, 64);
        feed *list = sgc__resize(log->list, room, sizeof *list);
        if (!list)
            return false;
        log->list = list;
        log->room = room;
    }
    log->list[log->n++] = (feed){f->n_samples, (uint32_t)(g - f->gathers), (uint32_t)row, part};
    return true;
}

void sgc__entry_add(entry *e, double value)
{
    e->most = e->n && !(value > e->most) && value == value ? e->most : value;
    e->sum += value;
    e->n++;
}

/* The entry of the answer that the sample goes into; SIZE_MAX: no memory. */
static size_t entry_feed(folder *f, gather *g, sgc_str by, double value)
{
    bool fresh;
    size_t i = sgc__row_take(&f->scratch, &g->entries, by, sizeof(entry), sgc__entry_key, &fresh);

    if (i != SIZE_MAX)
        sgc__entry_add((entry *)g->entries.list + i, value);
    return i;
}

static bool value_take(folder *f, gather *g, const sgc_extract *x, const sgc__sample *s)
{
    sgc_str by = x->by.len ? value_of(f, s, x->by) : SGC__STR("");
    double lowest[SGC__LOWEST_MAX] = {0};
    measure *m;
    bool fresh;
    size_t i;

    if (!by.ptr)
        return false;
    if (!x->n_without) {
        i = entry_feed(f, g, by, s->value);
        return i != SIZE_MAX && feed_note(f, g, i, SGC__PART_ENTRY);
    }
    if (!key_build(f, s, x->without, x->n_without, false) || !lowest_read(f, s, x, lowest))
        return false;
    i = sgc__row_take(&f->scratch, &g->series, (sgc_str){f->key.ptr, f->key.len}, sizeof *m, sgc__measure_key, &fresh);
    if (i == SIZE_MAX)
        return false;
    m = (measure *)g->series.list + i;
    if (fresh && !(m->by = sgc__arena_copy(&f->scratch, by)).ptr)
        return false;
    if (fresh || sgc__is_lower(lowest, m->lowest)) {
        memcpy(m->lowest, lowest, sizeof lowest);
        m->value = s->value;
        m->line = f->n_samples;
        return feed_note(f, g, i, SGC__PART_MEASURE);
    }
    return true;
}

/* ------------------------------------------------------------- histograms */

static bool bucket_push(folder *f, histogram *h, double bound, double count)
{
    if (h->n == h->room) {
        size_t room = h->room ? h->room * 2 : 32;
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
static bool histogram_start(folder *f, histogram *h, const sgc_extract *x, const sgc__sample *s)
{
    sgc_str by = x->by.len ? value_of(f, s, x->by) : SGC__STR("");

    h->sum = NAN;
    if (!by.ptr || !(h->by = sgc__arena_copy(&f->scratch, by)).ptr)
        return false;
    h->group = h->key;
    if (!x->n_without)
        return true;
    if (!key_build(f, s, x->without, x->n_without, true) || !lowest_read(f, s, x, h->lowest))
        return false;
    h->group = sgc__arena_copy(&f->scratch, (sgc_str){f->key.ptr, f->key.len});
    return h->group.ptr != NULL;
}

/* `suffix` is what the sample's name has behind the family's. */
static bool histogram_feed(folder *f, gather *g, const sgc__sample *s, sgc_str suffix)
{
    histogram *h = (histogram *)g->series.list + g->last;
    sgc_str le;
    double bound;

    if (sgc__eq(suffix, SGC__STR("_sum")) || sgc__eq(suffix, SGC__STR("_gsum"))) {
        h->sum = s->value;
        return feed_note(f, g, g->last, SGC__PART_SUM);
    }
    if (sgc__eq(suffix, SGC__STR("_count")) || sgc__eq(suffix, SGC__STR("_gcount"))) {
        h->count = s->value;
        h->has_count = true;
        return feed_note(f, g, g->last, SGC__PART_COUNT);
    }
    le = value_of(f, s, SGC__STR("le"));
    if (!le.ptr)
        return false;
    if (!sgc__number_read(le, &bound) || bound != bound) {
        h->bad_bound = true;
        return true;
    }
    return bucket_push(f, h, bound, s->value) && feed_note(f, g, g->last, (int64_t)h->n - 1);
}

static bool histogram_take(folder *f, gather *g, const sgc_extract *x, const sgc__sample *s, sgc_str family)
{
    sgc_str suffix = {s->name.ptr + family.len, s->name.len - family.len};
    bool fresh;
    size_t i;

    if (!suffix.len || sgc__eq(suffix, SGC__STR("_created")))
        return true; /* a summary's quantile: no one can combine those */
    if (!key_build(f, s, NULL, 0, true))
        return false;
    i = sgc__row_take(&f->scratch, &g->series, (sgc_str){f->key.ptr, f->key.len}, sizeof(histogram), histogram_key,
                      &fresh);
    if (i == SIZE_MAX)
        return false;
    g->last = i;
    g->last_at = f->n_samples;
    return (!fresh || histogram_start(f, (histogram *)g->series.list + i, x, s)) && histogram_feed(f, g, s, suffix);
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

/* Is the changed label of a sample that follows the last taken one this label? */
static bool changed_is(const sgc__sample *s, sgc_str name)
{
    return s->changed != SGC__CHANGED_MORE && sgc__eq(sgc__label_at(s, s->changed).name, name);
}

static bool follows(const folder *f, const gather *g)
{
    return g->last_at && g->last_at + 1 == f->n_samples;
}

/* Counts the sample under its value of the label. */
static bool label_take(folder *f, gather *g, const sgc_extract *x, const sgc__sample *s)
{
    bool failed = false;
    sgc_str value;
    size_t i;

    if (s->changed != SGC__CHANGED_MORE && !x->n_where && follows(f, g) && !changed_is(s, x->by)) {
        sgc__entry_add((entry *)g->entries.list + g->last, 1);
        g->last_at++;
        return true;
    }
    if (!sample_passes(f, s, x, &failed))
        return !failed;
    value = value_of(f, s, x->by);
    if (!value.len)
        return value.ptr != NULL;
    i = entry_feed(f, g, value, 1);
    g->last = i;
    g->last_at = f->n_samples;
    return i != SIZE_MAX;
}

static bool labels_take(folder *f, const sgc__sample *s)
{
    for (size_t i = 0; i < f->plan->n_label_extracts; i++) {
        uint32_t at = f->plan->label_extracts[i];
        if (!label_take(f, &f->gathers[at], &f->plan->extracts[at], s))
            return false;
    }
    return true;
}

/* Does a condition look at the bucket's bound? */
static bool le_decides(const sgc_extract *x)
{
    for (size_t i = 0; i < x->n_where; i++)
        if (sgc__eq(x->where[i].label, SGC__STR("le")))
            return true;
    return false;
}

/* The next bucket of the series whose last one was taken. */
static bool next_bucket(folder *f, gather *g, const sgc_extract *x, const sgc__sample *s)
{
    if (!follows(f, g) || !changed_is(s, SGC__STR("le")) || le_decides(x))
        return false;
    g->last_at++;
    return true;
}

static bool want_take(folder *f, const sgc__want *want, const sgc__sample *s, sgc_str family)
{
    const sgc_extract *x = &f->plan->extracts[want->extract];
    gather *g = &f->gathers[want->extract];
    bool failed = false;

    if (want->rank > g->rank)
        return true;
    if (want->rank < g->rank) { /* a better name than what was gathered so far */
        g->rank = want->rank;
        g->last_at = 0;
        if (f->log)
            f->log->spoiled |= g->series.n || g->entries.n;
        sgc__table_clear(&g->series);
        sgc__table_clear(&g->entries);
    }
    if (x->kind == SGC_KIND_HISTOGRAM && next_bucket(f, g, x, s))
        return histogram_feed(f, g, s, (sgc_str){s->name.ptr + family.len, s->name.len - family.len});
    if (!sample_passes(f, s, x, &failed))
        return !failed;
    return x->kind == SGC_KIND_HISTOGRAM ? histogram_take(f, g, x, s, family) : value_take(f, g, x, s);
}

sgc_status sgc__folder_sample(void *self, const sgc__parser *parser, const sgc__sample *s)
{
    folder *f = self;
    const sgc__family *family = &parser->families.list[s->family];
    bool in_histogram = is_histogram((sgc_type)family->type);
    sgc_kind kind = in_histogram ? SGC_KIND_HISTOGRAM : SGC_KIND_VALUE;

    if (s->family != f->family || in_histogram != f->in_histogram || !sgc__eq(s->name, f->name)) {
        f->family = s->family;
        f->name = s->name;
        f->in_histogram = in_histogram;
        f->want = sgc__plan_find(f->plan, in_histogram ? sgc__family_name(family) : s->name);
        f->prefixed = f->plan->n_label_extracts && has_prefix(f->plan, s->name);
    }
    f->n_samples++;
    if (f->prefixed && !labels_take(f, s))
        return sgc__fail_memory(f->err);
    for (uint32_t i = f->want; i != SGC__NO_WANT; i = f->plan->wants[i].next) {
        const sgc__want *want = &f->plan->wants[i];
        if (f->plan->extracts[want->extract].kind == kind && !want_take(f, want, s, sgc__family_name(family)))
            return sgc__fail_memory(f->err);
    }
    return SGC_OK;
}

/* ------------------------------------------------------------------- fold */

void sgc__folder_free(folder *f)
{
    for (size_t i = 0; f->gathers && i < f->plan->n_extracts; i++) {
        sgc__table_free(&f->gathers[i].series);
        sgc__table_free(&f->gathers[i].entries);
    }
    sgc__release(f->gathers);
    sgc__buf_free(&f->key);
    sgc__arena_free(&f->scratch);
}

bool sgc__folder_init(folder *f, const sgc_plan *plan)
{
    *f = (folder){.plan = plan, .family = UINT32_MAX};
    sgc__buf_init(&f->key, SIZE_MAX);
    f->gathers = sgc__alloc(plan->n_extracts, sizeof *f->gathers);
    for (size_t i = 0; f->gathers && i < plan->n_extracts; i++)
        f->gathers[i].rank = UINT32_MAX;
    return f->gathers != NULL;
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
