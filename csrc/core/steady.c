/*
 * steady.c - the second page of a target has the lines of the first with other
 * values. What lies between the values is compared as bytes: where all of it is
 * equal, everything but the values has been checked before and means the same,
 * so that each value only needs to be put where its predecessor went.
 *
 * On a page of other lines, those that are known do what they did before
 * (refold.c), and only the others are read; so it is learned in its turn.
 */
#include "reader.h"
#include "refold.h"
#include "simd.h"

/* A number of the gathers that a line's value goes into, as the log tells it. */
typedef struct {
    void *at; /* a double, which takes the value; or an entry, which adds it */
    uint32_t line;
    bool adds;
} target;

/* A line with a value: how far behind the line before its value stands, and how
 * far behind the value the next line begins. */
typedef struct {
    uint32_t gap;
    uint32_t rest;
} known_line;

/* What it takes to know the line on another page, and what it did. */
typedef struct {
    uint32_t head;    /* its value stands so far behind its beginning */
    uint32_t context; /* the family it belonged to; NO_CONTEXT: it must be read again */
    uint32_t feeds;   /* in the log */
    uint32_t shown;   /* in the log, or SGC__NOT_SHOWN */
} meaning;

#define NO_CONTEXT UINT32_MAX

enum { BYTES_A_LINE = 128 }; /* of a server's page, about */

/* A family as it was when a sample of it came. */
typedef struct {
    sgc_str name; /* in the folder's memory */
    uint8_t type;
} context;

/* A page. All zero is none. */
typedef struct {
    bool usable;
    sgc_options asked; /* how it was read */
    bool om;
    sgc__buf page;
    known_line *lines;
    meaning *meanings;
    size_t n_lines;
    size_t lines_room;
    context *contexts;
    size_t n_contexts;
    size_t contexts_room;
    feed_log log;
    folder folder;
    target *targets;
    size_t n_targets;
} lesson;

struct sgc_steady {
    sgc_plan *plan;
    bool hit;
    uint64_t n_known; /* of the last page's samples */
    lesson known;
};

sgc_status sgc_steady_new(sgc_plan *plan, sgc_steady **out, sgc_error *err)
{
    sgc_steady *steady = sgc__alloc(1, sizeof *steady);

    *out = steady;
    if (!steady)
        return sgc__fail_memory(err);
    steady->plan = sgc_plan_retain(plan);
    return SGC_OK;
}

static void lesson_free(lesson *l)
{
    if (l->folder.plan)
        sgc__folder_free(&l->folder);
    sgc__log_free(&l->log);
    sgc__buf_free(&l->page);
    sgc__release(l->lines);
    sgc__release(l->meanings);
    sgc__release(l->contexts);
    sgc__release(l->targets);
    memset(l, 0, sizeof *l);
}

void sgc_steady_free(sgc_steady *steady)
{
    if (!steady)
        return;
    lesson_free(&steady->known);
    sgc_plan_free(steady->plan);
    sgc__release(steady);
}

bool sgc_steady_hit(const sgc_steady *steady)
{
    return steady->hit;
}

uint64_t sgc_steady_n_known(const sgc_steady *steady)
{
    return steady->n_known;
}

const sgc_plan *sgc_steady_plan(const sgc_steady *steady)
{
    return steady->plan;
}

/* --------------------------------------------------------------- learning */

static bool asked_alike(const sgc_options *a, const sgc_options *b)
{
    return a->format == b->format && a->strict == b->strict &&
           memcmp(&a->limits, &b->limits, sizeof a->limits) == 0;
}

typedef struct {
    lesson *lesson;
    size_t n_likely;  /* lines that a page of this size mostly has */
    const char *last; /* where the line behind the last value begins */
    bool usable;      /* every value so far ends its line, and was noted */
    /* What was known before, and how the page goes along with it. */
    const lesson *old; /* NULL: nothing */
    refold re;
    size_t next;    /* the line of it that is expected */
    size_t old_at;  /* where that begins */
    size_t strange; /* bytes that are read before old lines are looked for again */
    size_t family;  /* of the last sample, the last of the lesson's contexts; and its type */
    uint8_t type;
    uint32_t old_context; /* the same among the old ones, if it was compared; or NO_CONTEXT */
    uint64_t n_known;
} student;

/* A list of elements of a lesson that grows with another, which is as long. */
static bool lines_grow(lesson *l, size_t n_likely)
{
    size_t room = sgc__grow(l->lines_room, n_likely + 16);
    known_line *lines = sgc__resize(l->lines, room, sizeof *lines);
    meaning *meanings;

    if (!lines)
        return false;
    l->lines = lines;
    meanings = sgc__resize(l->meanings, room, sizeof *meanings);
    if (!meanings)
        return false;
    l->meanings = meanings;
    l->lines_room = room;
    return true;
}

/* The line from `line` to before `next`, whose value stands at `value`. */
static bool line_add(student *student, const char *line, const char *value, const char *next, meaning m)
{
    lesson *l = student->lesson;
    size_t gap = (size_t)(value - student->last), rest = (size_t)(next - value);

    if (l->n_lines == l->lines_room && !lines_grow(l, student->n_likely))
        return false;
    m.head = (uint32_t)(value - line);
    l->lines[l->n_lines] = (known_line){(uint32_t)gap, (uint32_t)rest};
    l->meanings[l->n_lines++] = m;
    student->last = next;
    return gap <= UINT32_MAX && rest <= UINT32_MAX && l->log.n < UINT32_MAX && l->n_contexts < UINT32_MAX;
}

static bool context_is(const context *c, const sgc__family *family)
{
    return c->type == family->type && sgc__eq(c->name, sgc__family_name(family));
}

/* Makes the family, which is not that of the last sample, a context; false: no memory. */
static SGC_APART bool context_add(student *student, const sgc__family *family)
{
    lesson *l = student->lesson;
    context made = {{NULL, 0}, family->type};

    if (l->n_contexts == l->contexts_room) {
        size_t room = sgc__grow(l->contexts_room, 32);
        context *contexts = sgc__resize(l->contexts, room, sizeof *contexts);
        if (!contexts)
            return false;
        l->contexts = contexts;
        l->contexts_room = room;
    }
    made.name = sgc__arena_copy(&l->folder.scratch, sgc__family_name(family));
    if (!made.name.ptr)
        return false;
    l->contexts[l->n_contexts++] = made;
    return true;
}

/* The last context is then that family. False: no memory. */
static bool context_take(student *student, const sgc__families *families, size_t family)
{
    uint8_t type = families->list[family].type;

    if (SGC_LIKELY(student->lesson->n_contexts && student->family == family && student->type == type))
        return true;
    student->family = family;
    student->type = type;
    student->old_context = NO_CONTEXT;
    return context_add(student, &families->list[family]);
}

/* A value must be followed by a newline and nothing else: what follows it on a
 * known line is not looked at. */
static bool ends_its_line(const sgc__sample *s)
{
    char last = s->next[-2];

    return s->next[-1] == '\n' && s->timestamp != s->timestamp && !s->exemplar && last != ' ' &&
           last != '\t' && last != '\r';
}

static sgc_status sample_learn(void *self, const sgc__parser *parser, const sgc__sample *s)
{
    student *student = self;
    lesson *l = student->lesson;
    meaning m = {.feeds = (uint32_t)l->log.n};
    sgc_status status;

    l->log.passed_over = false;
    status = sgc__folder_sample(&l->folder, parser, s);
    student->re.shown = SIZE_MAX;
    if (!student->usable || status != SGC_OK)
        return status;
    m.shown = l->folder.prefixed ? (uint32_t)l->folder.shown : SGC__NOT_SHOWN;
    student->usable = ends_its_line(s) && context_take(student, &parser->families, s->family);
    m.context = l->log.passed_over ? NO_CONTEXT : (uint32_t)l->n_contexts - 1;
    student->usable = student->usable && line_add(student, s->line, s->value_text, s->next, m);
    return SGC_OK;
}

static double *number_of(const gather *g, const feed *feed)
{
    histogram *h = (histogram *)g->series.list + feed->row;

    if (feed->part <= SGC__PART_MEASURE)
        return &((measure *)g->series.list + feed->row)->value;
    if (feed->part == SGC__PART_SUM)
        return &h->sum;
    return feed->part == SGC__PART_COUNT ? &h->count : &h->buckets[feed->part].count;
}

/* ----------------------------------------------------------- a known page */

static SGC_APART const char *long_value_read(const char *p, const char *end, bool om, uint64_t longest,
                                             double *value)
{
    const char *stop = sgc__scan_token(p, end);
    sgc_str token = {p, (size_t)(stop - p)};

    if (stop == p || stop == end || *stop != '\n' || token.len > longest ||
        !sgc__value_token_read(token, om, value))
        return NULL;
    return stop + 1;
}

/* The value at p, which must end its line. Returns the next line; NULL: it does
 * not, or is no value, or is longer than the limit. */
static inline const char *value_read(const char *p, const char *end, bool om, uint64_t longest, double *value)
{
    const char *next = longest >= 16 ? sgc__short_value(p, end, value) : NULL;

    return next ? next : long_value_read(p, end, om, longest, value);
}

/* Entries that values are added to begin at nothing again. */
static void sums_reset(lesson *l)
{
    for (size_t i = 0; i < l->n_targets; i++) {
        entry *sum = l->targets[i].at;
        if (l->targets[i].adds)
            sum->sum = sum->most = 0, sum->n = 0;
    }
}

/* Does the page begin as the known one? Most others do not. */
static bool begins_alike(const lesson *l, const char *data, size_t len)
{
    size_t gap = l->n_lines ? l->lines[0].gap : 0;

    return len >= gap && (!gap || memcmp(data, l->page.ptr, gap) == 0);
}

/* Reads a page whose lines are known; false where they are not, and the numbers
 * of the gathers are then worth nothing. */
static bool page_match(lesson *l, const char *data, size_t len)
{
    const char *p = data, *end = data + len;
    const char *old = l->page.ptr, *old_end = old + l->page.len;
    const target *t = l->targets, *last = t + l->n_targets;
    uint64_t longest = l->asked.limits.number_length;

    for (size_t i = 0; i < l->n_lines; i++) {
        known_line line = l->lines[i];
        double value;
        if ((size_t)(end - p) < line.gap || memcmp(p, old, line.gap) != 0)
            return false;
        p = value_read(p + line.gap, end, l->om, longest, &value);
        if (!p)
            return false;
        old += line.gap + (size_t)line.rest;
        for (; t < last && t->line == i + 1; t++) {
            if (t->adds)
                sgc__entry_add(t->at, value);
            else
                *(double *)t->at = value;
        }
    }
    return end - p == old_end - old && (p == end || memcmp(p, old, (size_t)(end - p)) == 0);
}

/* ------------------------------------------------- known lines on another page */

enum { FEW_LINES = 16, STRANGE = 256 };

/* Does old line `i`, which begins at `at`, stand at p? */
static bool line_stands(const lesson *old, size_t i, size_t at, const char *p, const char *end)
{
    uint32_t head = old->meanings[i].head;

    return (size_t)(end - p) > head && memcmp(p, old->page.ptr + at + old->lines[i].gap - head, head) == 0;
}

/* Goes on to the old line that stands at p, if it is one of the next: the
 * expected one, or as many behind it as may have gone. False: there is none. */
static bool line_find(student *student, const char *p, const char *end)
{
    const lesson *old = student->old;
    size_t at = student->old_at, most = student->next + FEW_LINES + student->strange / BYTES_A_LINE;

    for (size_t i = student->next; i < old->n_lines && i < most; i++) {
        if (line_stands(old, i, at, p, end)) {
            student->next = i;
            student->old_at = at;
            return true;
        }
        at += old->lines[i].gap + (size_t)old->lines[i].rest;
    }
    return false;
}

/* Is the family that the page is at the one the old line belonged to, and of the
 * same type? The line then belongs to it: where a name that fits the family at
 * hand was found elsewhere, it was found to be that family too. */
static bool family_fits(student *student, const sgc__parser *ps, uint32_t old_context)
{
    const sgc__family *family;

    if (old_context == NO_CONTEXT || ps->current == SIZE_MAX ||
        !context_take(student, &ps->families, ps->current))
        return false;
    family = &ps->families.list[ps->current];
    if (SGC_UNLIKELY(student->old_context != old_context)) {
        if (!context_is(&student->old->contexts[old_context], family))
            return false;
        student->old_context = old_context;
    }
    return true;
}

/* Does with the old line that is expected, and stands at `line`, what it did.
 * Returns the next line; `line` where it has to be read; NULL: no memory. */
static const char *line_repeat(student *student, sgc__parser *ps, const char *line)
{
    const lesson *old = student->old;
    lesson *l = student->lesson;
    meaning m = old->meanings[student->next];
    const char *value = line + m.head, *next;
    uint32_t feeds = m.feeds;
    double number;

    if (!family_fits(student, ps, m.context) || ps->n_samples >= ps->options.limits.samples ||
        ps->n_samples >= UINT32_MAX)
        return line;
    next = value_read(value, ps->end, old->om, old->asked.limits.number_length, &number);
    if (!next)
        return line;
    m.feeds = (uint32_t)l->log.n;
    l->log.passed_over = false;
    if (!sgc__refold_line(&student->re, (uint32_t)student->next + 1, feeds, m.shown, number))
        return NULL;
    if (m.shown != SGC__NOT_SHOWN)
        m.shown = (uint32_t)l->folder.shown;
    m.context = l->log.passed_over ? NO_CONTEXT : (uint32_t)l->n_contexts - 1;
    ps->n_samples++;
    student->n_known++;
    student->usable = student->usable && line_add(student, line, value, next, m);
    return next;
}

static bool is_sample(const char *p, const char *end)
{
    return p < end && *p != '#' && *p != '\n' && *p != '\r' && *p != ' ' && *p != '\t';
}

/* Where lines are strange one after the other, they are looked up ever more rarely. */
static const char *known_take(void *self, sgc__parser *ps, const char *p)
{
    student *student = self;
    const lesson *old = student->old;
    const char *start = p, *next = NULL;

    if (p < ps->pause || ps->options.format != (old->om ? SGC_FORMAT_OPENMETRICS : SGC_FORMAT_TEXT) ||
        student->lesson->log.spoiled)
        return p;
    while (is_sample(p, ps->end) && line_find(student, p, ps->end)) {
        known_line line = old->lines[student->next];
        next = line_repeat(student, ps, p);
        student->next++;
        student->old_at += line.gap + (size_t)line.rest;
        student->strange = 0;
        if (!next || next == p)
            break;
        p = next;
    }
    if (p != start || next == p) {
        ps->pause = p;
        return next ? p : NULL;
    }
    ps->pause = (size_t)(ps->end - p) > student->strange ? p + student->strange : ps->end;
    student->strange = student->strange ? student->strange * 2 : STRANGE;
    return p;
}

/* Makes targets of the log: of the repeats of a measure only the one that
 * stands. The gathers no longer move. */
static bool targets_make(lesson *l)
{
    l->targets = sgc__resize(NULL, l->log.n, sizeof *l->targets);
    if (!l->targets)
        return false;
    for (size_t i = 0; i < l->log.n; i++) {
        const feed *feed = &l->log.list[i];
        const gather *g = &l->folder.gathers[feed->gather];
        target *t = &l->targets[l->n_targets];
        *t = (target){.line = feed->line, .adds = feed->part == SGC__PART_ENTRY};
        if (t->adds)
            t->at = (entry *)g->entries.list + feed->row;
        else if (feed->part >= SGC__PART_COUNT || feed->part <= SGC__PART_MEASURE)
            t->at = number_of(g, feed);
        else
            continue;
        if (feed->part > SGC__PART_MEASURE || ((measure *)g->series.list + feed->row)->line == feed->line)
            l->n_targets++;
    }
    return true;
}

/* A copy of the page, which has a place even where it is empty. */
static bool page_keep(lesson *l, const char *data, size_t len)
{
    sgc__buf_init(&l->page, SIZE_MAX);
    return sgc__buf_reserve(&l->page, len + 1) == SGC_OK && sgc__buf_append(&l->page, data, len) == SGC_OK;
}

/* A page is being read whose lines may be known. */
static bool student_init(student *student, const lesson *old, const sgc_options *options)
{
    student->usable = !options->strict;
    student->old_context = NO_CONTEXT;
    if (!old || !old->usable || options->strict || !asked_alike(&old->asked, options))
        return true;
    student->old = old;
    return sgc__refold_init(&student->re, &student->lesson->folder, &old->folder, &old->log);
}

/* Folds the page and takes it down in `l`, which is empty, with the help of an
 * older one. What is taken down cannot be used where memory ran out for it alone. */
static sgc_status learn(lesson *l, const lesson *old, sgc_plan *plan, const char *data, size_t len,
                        const sgc_options *options, sgc_fold **out, uint64_t *n_known, sgc_error *err)
{
    student student = {.lesson = l, .n_likely = len / BYTES_A_LINE, .last = data};
    sgc__parser parser = {.sample = sample_learn, .self = &student};
    bool ready = sgc__folder_init(&l->folder, plan) && student_init(&student, old, options);
    sgc_status status = ready ? SGC_OK : sgc__fail_memory(err);

    l->folder.err = err;
    l->folder.log = &l->log;
    l->log.n_likely = 2 * student.n_likely;
    if (student.old)
        parser.take_known = known_take;
    if (status == SGC_OK)
        status = sgc__parser_run(&parser, data, len, options, err);
    if (status == SGC_OK && !(*out = sgc__folder_finish(&l->folder)))
        status = sgc__fail_memory(err);
    l->folder.log = NULL;
    l->asked = *options;
    l->om = parser.options.format == SGC_FORMAT_OPENMETRICS;
    l->usable =
        status == SGC_OK && student.usable && !l->log.spoiled && page_keep(l, data, len) && targets_make(l);
    *n_known = student.n_known;
    sgc__refold_free(&student.re);
    sgc__parser_free(&parser);
    return status;
}

sgc_status sgc_steady_try(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                          sgc_fold **out, sgc_error *err)
{
    lesson *l = &steady->known;

    *out = NULL;
    steady->hit = false;
    steady->n_known = 0;
    if (!l->usable || !asked_alike(&l->asked, options) || len > options->limits.body_bytes ||
        !begins_alike(l, data, len))
        return SGC_OK;
    sums_reset(l);
    if (!page_match(l, data, len))
        return SGC_OK;
    steady->hit = true;
    steady->n_known = l->n_lines;
    *out = sgc__folder_finish(&l->folder);
    return *out ? SGC_OK : sgc__fail_memory(err);
}

sgc_status sgc_steady_learn(sgc_steady *steady, const sgc_steady *older, const char *data, size_t len,
                            const sgc_options *options, sgc_fold **out, sgc_error *err)
{
    const lesson *old = older && older->plan == steady->plan ? &older->known : NULL;
    lesson fresh = {.usable = false};
    sgc_status status;

    *out = NULL;
    steady->hit = false;
    status = learn(&fresh, old, steady->plan, data, len, options, out, &steady->n_known, err);
    if (fresh.usable) {
        lesson_free(&steady->known);
        steady->known = fresh;
    } else {
        lesson_free(&fresh);
    }
    return status;
}

sgc_status sgc_steady_fold(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                           sgc_fold **out, sgc_error *err)
{
    sgc_status status = sgc_steady_try(steady, data, len, options, out, err);

    return status != SGC_OK || *out ? status : sgc_steady_learn(steady, steady, data, len, options, out, err);
}
