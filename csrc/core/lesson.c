/*
 * lesson.c - servers of one release and one model have pages of the same lines,
 * so that what one has taught serves them all: less memory by as many times, and
 * it stays in the caches. A target keeps to its lesson until a page has other
 * lines; then the last ones that others had are tried before a new one is learned.
 *
 * The first page of a target is not learned from: many programs read but one. To
 * learn costs half as much again as to fold, so that a target whose lessons never
 * fit is taught more and more seldom, up to every 32nd page.
 */
#include "lesson.h"

struct sgc__lesson {
    atomic_uint refs;
    atomic_flag busy; /* somebody reads by it; in a forked child perhaps for ever */
    sgc_steady *steady;
};

static sgc__lesson *retain(sgc__lesson *lesson)
{
    atomic_fetch_add_explicit(&lesson->refs, 1, memory_order_relaxed);
    return lesson;
}

void sgc__lesson_free(sgc__lesson *lesson)
{
    if (!lesson || atomic_fetch_sub_explicit(&lesson->refs, 1, memory_order_acq_rel) > 1)
        return;
    sgc_steady_free(lesson->steady);
    sgc__release(lesson);
}

static sgc__lesson *lesson_new(sgc_plan *plan)
{
    sgc__lesson *lesson = sgc__alloc(1, sizeof *lesson);

    if (!lesson)
        return NULL;
    atomic_init(&lesson->refs, 1);
    atomic_flag_clear(&lesson->busy);
    if (sgc_steady_new(plan, &lesson->steady, NULL) == SGC_OK)
        return lesson;
    sgc__release(lesson);
    return NULL;
}

/* A page that is being read, and by what. */
typedef struct {
    sgc_plan *plan;
    const char *data;
    size_t len;
    const sgc_options *options;
    sgc_fold **fold;
    sgc_error *err;
} reading;

/* *r->fold stays NULL where the lesson is of no use. */
static sgc_status read_by(sgc__lesson *lesson, const reading *r)
{
    sgc_status status = SGC_OK;

    if (sgc_steady_plan(lesson->steady) != r->plan ||
        atomic_flag_test_and_set_explicit(&lesson->busy, memory_order_acquire))
        return SGC_OK;
    status = sgc_steady_try(lesson->steady, r->data, r->len, r->options, r->fold, r->err);
    atomic_flag_clear_explicit(&lesson->busy, memory_order_release);
    return status;
}

/* A new lesson, counted once; NULL where nothing was learned. Lines that are known
 * from an older one, where there is one and it is free, are not read again. */
static sgc_status learn(const reading *r, sgc__lesson *older, sgc__lesson **lesson)
{
    sgc_status status;

    *lesson = lesson_new(r->plan);
    if (!*lesson)
        return sgc__fail_memory(r->err);
    if (older && atomic_flag_test_and_set_explicit(&older->busy, memory_order_acquire))
        older = NULL;
    status = sgc_steady_learn((*lesson)->steady, older ? older->steady : NULL, r->data, r->len, r->options,
                              r->fold, r->err);
    if (older)
        atomic_flag_clear_explicit(&older->busy, memory_order_release);
    if (status == SGC_OK)
        return SGC_OK;
    sgc__lesson_free(*lesson);
    *lesson = NULL;
    return status;
}

/* Puts a lesson in front. */
static void note(sgc__lessons *lessons, sgc__lesson *lesson)
{
    size_t at = 0;

    while (at < SGC__LESSONS - 1 && lessons->list[at] && lessons->list[at] != lesson)
        at++;
    if (lessons->list[at] != lesson) {
        sgc__lesson_free(lessons->list[at]);
        retain(lesson);
    }
    memmove(&lessons->list[1], &lessons->list[0], at * sizeof *lessons->list);
    lessons->list[0] = lesson;
}

void sgc__lessons_free(sgc__lessons *lessons)
{
    for (size_t i = 0; i < SGC__LESSONS; i++)
        sgc__lesson_free(lessons->list[i]);
}

/* One of the others that fits; NULL. */
static sgc_status find(const sgc__lessons *lessons, const sgc__lesson *own, const reading *r,
                       sgc__lesson **found)
{
    *found = NULL;
    for (size_t i = 0; i < SGC__LESSONS && lessons->list[i]; i++) {
        sgc_status status = lessons->list[i] == own ? SGC_OK : read_by(lessons->list[i], r);
        if (status != SGC_OK)
            return status;
        if (*r->fold) {
            *found = retain(lessons->list[i]);
            return SGC_OK;
        }
    }
    return SGC_OK;
}

/* Is it time to learn from a page that no lesson fits? */
static bool is_due(sgc_endpoint *endpoint)
{
    enum { MOST_DOUBLINGS = 5 };
    unsigned rest = atomic_load_explicit(&endpoint->rest, memory_order_relaxed);
    unsigned useless = atomic_load_explicit(&endpoint->useless, memory_order_relaxed);

    atomic_store_explicit(&endpoint->rest, rest ? rest - 1 : (1u << useless) - 1, memory_order_relaxed);
    if (!rest && useless < MOST_DOUBLINGS)
        atomic_store_explicit(&endpoint->useless, useless + 1, memory_order_relaxed);
    return !rest;
}

/* A lesson fitted: the next one may be learned at once. */
static void note_fit(sgc_endpoint *endpoint)
{
    if (atomic_load_explicit(&endpoint->useless, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&endpoint->rest, 0, memory_order_relaxed);
    atomic_store_explicit(&endpoint->useless, 0, memory_order_relaxed);
}

/* Learns the next lesson of the endpoint. One that has most lines of its own before
 * was not learned in vain. */
static sgc_status learn_next(sgc_endpoint *endpoint, sgc__lesson *own, const reading *r, sgc__lesson **next)
{
    sgc_status status = learn(r, own, next);

    if (status == SGC_OK && sgc_steady_n_known((*next)->steady) > sgc_fold_n_samples(*r->fold) / 2)
        note_fit(endpoint);
    return status;
}

/* Reads the page by the endpoint's own lesson, which is consumed, or by the one
 * that takes its place and becomes *next; NULL where none is left. */
static sgc_status read_page(const sgc__lessons *lessons, sgc_endpoint *endpoint, sgc__lesson *own,
                            const reading *r, sgc__lesson **next)
{
    sgc_status status = own ? read_by(own, r) : SGC_OK;

    *next = own;
    if (status == SGC_OK && !*r->fold)
        status = find(lessons, own, r, next);
    if (*r->fold)
        note_fit(endpoint);
    else if (status == SGC_OK && is_due(endpoint))
        status = learn_next(endpoint, own, r, next);
    else if (status == SGC_OK)
        status = sgc_plan_fold(r->plan, r->data, r->len, r->options, r->fold, r->err);
    if (own != *next)
        sgc__lesson_free(own);
    return status;
}

sgc_status sgc__lessons_fold(sgc__lessons *lessons, sgc_endpoint *endpoint, sgc_plan *plan, const char *data,
                             size_t len, const sgc_options *options, sgc_fold **fold, sgc_error *err)
{
    const reading r = {plan, data, len, options, fold, err};
    sgc__lesson *own = atomic_exchange(&endpoint->lesson, NULL);
    sgc_status status;

    *fold = NULL;
    status = read_page(lessons, endpoint, own, &r, &own);
    if (own)
        note(lessons, own);
    sgc__lesson_free(atomic_exchange(&endpoint->lesson, own));
    return status;
}
