/*
 * steady.c - the second page of a target has the lines of the first with other
 * values. What lies between the values is compared as bytes: where all of it is
 * equal, everything but the values has been checked before and means the same,
 * so that each value only needs to be put where its predecessor went. Any other
 * page is read in full, and learned.
 */
#include "fold.h"
#include "reader.h"
#include "simd.h"

/* A number of the gathers that a line's value goes into, as the log tells it. */
typedef struct {
    uint64_t line;
    double *number; /* takes the value; NULL: */
    entry *sum;     /* adds it */
} target;

/* A line with a value: how far behind the line before its value stands, and how
 * far behind the value the next line begins. */
typedef struct {
    uint32_t gap;
    uint32_t rest;
} known_line;

struct sgc_steady {
    sgc_plan *plan;
    bool learned; /* the rest describes a page */
    bool hit;
    sgc_options asked; /* how that page was read */
    bool om;
    sgc__buf page;
    known_line *lines;
    size_t n_lines;
    size_t lines_room;
    folder folder;
    target *targets;
    size_t n_targets;
};

sgc_status sgc_steady_new(sgc_plan *plan, sgc_steady **out, sgc_error *err)
{
    sgc_steady *steady = sgc__alloc(1, sizeof *steady);

    *out = steady;
    if (!steady)
        return sgc__fail_memory(err);
    steady->plan = sgc_plan_retain(plan);
    sgc__buf_init(&steady->page, SIZE_MAX);
    return SGC_OK;
}

/* Forgets the page; the buffers stay. */
static void forget(sgc_steady *steady)
{
    if (steady->learned)
        sgc__folder_free(&steady->folder);
    sgc__release(steady->targets);
    steady->targets = NULL;
    steady->n_targets = steady->n_lines = 0;
    steady->learned = false;
}

void sgc_steady_free(sgc_steady *steady)
{
    if (!steady)
        return;
    forget(steady);
    sgc__buf_free(&steady->page);
    sgc__release(steady->lines);
    sgc_plan_free(steady->plan);
    sgc__release(steady);
}

bool sgc_steady_hit(const sgc_steady *steady)
{
    return steady->hit;
}

const sgc_plan *sgc_steady_plan(const sgc_steady *steady)
{
    return steady->plan;
}

/* --------------------------------------------------------------- learning */

typedef struct {
    sgc_steady *steady;
    const char *last; /* where the line behind the last value begins */
    bool usable;      /* every value so far ends its line, and was noted */
} student;

static bool line_add(sgc_steady *steady, size_t gap, size_t rest)
{
    if (steady->n_lines == steady->lines_room) {
        size_t room = sgc__grow(steady->lines_room, 256);
        known_line *lines = sgc__resize(steady->lines, room, sizeof *lines);
        if (!lines)
            return false;
        steady->lines = lines;
        steady->lines_room = room;
    }
    steady->lines[steady->n_lines++] = (known_line){(uint32_t)gap, (uint32_t)rest};
    return gap <= UINT32_MAX && rest <= UINT32_MAX;
}

/* A value must be followed by a newline and nothing else: what follows it on a
 * known line is not looked at. */
static bool ends_its_line(const sgc__sample *s)
{
    const char *stop = sgc__scan_token(s->value_text, s->next);

    return stop + 1 == s->next && *stop == '\n';
}

static sgc_status sample_learn(void *self, const sgc__parser *parser, const sgc__sample *s)
{
    student *student = self;

    student->usable =
        student->usable && ends_its_line(s) &&
        line_add(student->steady, (size_t)(s->value_text - student->last), (size_t)(s->next - s->value_text));
    student->last = s->next;
    return sgc__folder_sample(&student->steady->folder, parser, s);
}

static double *number_of(const gather *g, const feed *feed)
{
    histogram *h = (histogram *)g->series.list + feed->row;

    if (feed->part == SGC__PART_MEASURE)
        return &((measure *)g->series.list + feed->row)->value;
    if (feed->part == SGC__PART_SUM)
        return &h->sum;
    return feed->part == SGC__PART_COUNT ? &h->count : &h->buckets[feed->part].count;
}

/* Makes targets of the log: of the repeats of a measure only the one that
 * stands. The gathers no longer move. */
static bool targets_make(sgc_steady *steady, const feed_log *log)
{
    steady->targets = sgc__resize(NULL, log->n, sizeof *steady->targets);
    if (!steady->targets)
        return false;
    for (size_t i = 0; i < log->n; i++) {
        const feed *feed = &log->list[i];
        const gather *g = &steady->folder.gathers[feed->gather];
        target *t = &steady->targets[steady->n_targets];
        *t = (target){.line = feed->line};
        if (feed->part == SGC__PART_ENTRY)
            t->sum = (entry *)g->entries.list + feed->row;
        else
            t->number = number_of(g, feed);
        if (feed->part != SGC__PART_MEASURE || ((measure *)g->series.list + feed->row)->line == feed->line)
            steady->n_targets++;
    }
    return true;
}

/* A copy of the page, which has a place even where it is empty. */
static bool page_keep(sgc_steady *steady, const char *data, size_t len)
{
    sgc__buf_reset(&steady->page);
    return sgc__buf_reserve(&steady->page, len + 1) == SGC_OK &&
           sgc__buf_append(&steady->page, data, len) == SGC_OK;
}

/* Keeps what the page taught, where it can be used: without memory for it the
 * next page is read in full again. */
static void remember(sgc_steady *steady, const student *student, const feed_log *log, const char *data,
                     size_t len, const sgc_options *options)
{
    steady->learned =
        student->usable && !log->spoiled && page_keep(steady, data, len) && targets_make(steady, log);
    steady->asked = *options;
    if (!steady->learned)
        sgc__folder_free(&steady->folder);
    steady->folder.log = NULL;
}

static sgc_status learn(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                        sgc_fold **out, sgc_error *err)
{
    feed_log log = {.n = 0};
    student student = {.steady = steady, .last = data, .usable = !options->strict};
    sgc__parser parser = {.sample = sample_learn, .self = &student};
    sgc_status status;

    forget(steady);
    status = sgc__folder_init(&steady->folder, steady->plan) ? SGC_OK : sgc__fail_memory(err);
    steady->folder.err = err;
    steady->folder.log = &log;
    if (status == SGC_OK)
        status = sgc__parser_run(&parser, data, len, options, err);
    if (status == SGC_OK && !(*out = sgc__folder_finish(&steady->folder)))
        status = sgc__fail_memory(err);
    steady->om = parser.options.format == SGC_FORMAT_OPENMETRICS;
    if (status == SGC_OK)
        remember(steady, &student, &log, data, len, options);
    else
        sgc__folder_free(&steady->folder);
    sgc__parser_free(&parser);
    sgc__release(log.list);
    return status;
}

/* ------------------------------------------------------------- known lines */

/* The value at p, which must end its line. Returns the next line; NULL: it does
 * not, or is no value, or is longer than the limit. */
static const char *value_read(const char *p, const char *end, bool om, uint64_t longest, double *value)
{
    const char *next = longest >= 16 ? sgc__short_value(p, end, value) : NULL, *stop;
    sgc_str token;

    if (next)
        return next;
    stop = sgc__scan_token(p, end);
    token = (sgc_str){p, (size_t)(stop - p)};
    if (stop == p || stop == end || *stop != '\n' || token.len > longest ||
        !sgc__value_token_read(token, om, value))
        return NULL;
    return stop + 1;
}

/* Entries that values are added to begin at nothing again. */
static void sums_reset(sgc_steady *steady)
{
    for (size_t i = 0; i < steady->n_targets; i++) {
        entry *sum = steady->targets[i].sum;
        if (sum)
            sum->sum = sum->most = 0, sum->n = 0;
    }
}

/* Reads a page whose lines are known; false where they are not, and the numbers
 * of the gathers are then worth nothing. */
static bool page_match(sgc_steady *steady, const char *data, size_t len)
{
    const char *p = data, *end = data + len;
    const char *old = steady->page.ptr, *old_end = old + steady->page.len;
    const target *t = steady->targets, *last = t + steady->n_targets;
    uint64_t longest = steady->asked.limits.number_length;

    for (size_t i = 0; i < steady->n_lines; i++) {
        known_line line = steady->lines[i];
        double value;
        if ((size_t)(end - p) < line.gap || memcmp(p, old, line.gap) != 0)
            return false;
        p = value_read(p + line.gap, end, steady->om, longest, &value);
        if (!p)
            return false;
        old += line.gap + (size_t)line.rest;
        for (; t < last && t->line == i + 1; t++) {
            if (t->number)
                *t->number = value;
            else
                sgc__entry_add(t->sum, value);
        }
    }
    return end - p == old_end - old && (p == end || memcmp(p, old, (size_t)(end - p)) == 0);
}

static bool asked_alike(const sgc_options *a, const sgc_options *b)
{
    return a->format == b->format && a->strict == b->strict &&
           memcmp(&a->limits, &b->limits, sizeof a->limits) == 0;
}

sgc_status sgc_steady_try(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                          sgc_fold **out, sgc_error *err)
{
    *out = NULL;
    steady->hit = false;
    if (!steady->learned || !asked_alike(&steady->asked, options) || len > options->limits.body_bytes)
        return SGC_OK;
    sums_reset(steady);
    if (!page_match(steady, data, len))
        return SGC_OK;
    steady->hit = true;
    *out = sgc__folder_finish(&steady->folder);
    return *out ? SGC_OK : sgc__fail_memory(err);
}

sgc_status sgc_steady_fold(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                           sgc_fold **out, sgc_error *err)
{
    sgc_status status = sgc_steady_try(steady, data, len, options, out, err);

    return status != SGC_OK || *out ? status : learn(steady, data, len, options, out, err);
}
