/*
 * test_lesson.c - what one target's pages taught is used for the others, and
 * never shows: every fold is that of a cold read.
 */
#include <pthread.h>

#include "alloc.h"
#include "check.h"
#include "fold_same.h"
#include "lesson.h"

#define S(text) {(text), sizeof(text) - 1}

enum { TARGETS = 50, LINES = 40, PAGE_SIZE = 4096 };

static sgc_plan *plan_make(void)
{
    static const sgc_str prefixes[] = {S("s:")}, g[] = {S("g")}, ranks[] = {S("tp")};
    static const sgc_extract extracts[] = {
        {.names = g, .n_names = 1, .without = ranks, .n_without = 1, .lowest = ranks, .n_lowest = 1},
        {.names = g, .n_names = 1, .by = S("m")},
    };
    sgc_plan *plan = NULL;

    if (sgc_plan_new(prefixes, 1, &plan, NULL) == SGC_OK)
        for (size_t i = 0; i < 2; i++)
            if (sgc_plan_add(plan, &extracts[i], NULL) != SGC_OK) {
                sgc_plan_free(plan);
                return NULL;
            }
    return plan;
}

static sgc_endpoint *endpoint_make(void)
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint = NULL;
    sgc_failure failure;

    sgc_endpoint_options_init(&options);
    options.url = SGC__STR("http://127.0.0.1:1/");
    sgc_endpoint_new(&options, &endpoint, &failure, NULL);
    return endpoint;
}

/* A page of `model`, whose numbers begin at `from`; the last line is `extra`. */
static size_t page_write(char *page, const char *model, int from, const char *extra)
{
    size_t len = 0;

    for (int i = 0; i < LINES; i++)
        len +=
            (size_t)snprintf(page + len, PAGE_SIZE - len, "s:g{m=\"%s\",tp=\"%d\"} %d\n", model, i, from + i);
    return len + (size_t)snprintf(page + len, PAGE_SIZE - len, "%s", extra);
}

/* Folds the page both ways; false: no memory. */
static bool page_read(sgc__lessons *lessons, sgc_endpoint *endpoint, sgc_plan *plan, const char *page,
                      size_t len)
{
    sgc_options options;
    sgc_fold *cold = NULL, *warm = NULL;
    sgc_error cold_err, err;
    sgc_status expected, status;

    sgc_options_init(&options);
    status = sgc__lessons_fold(lessons, endpoint, plan, page, len, &options, &warm, &err);
    CHECK((status == SGC_OK) == (warm != NULL));
    if (status == SGC_NOMEM)
        return false;
    expected = sgc_plan_fold(plan, page, len, &options, &cold, &cold_err);
    if (expected != SGC_NOMEM) {
        CHECK(status == expected);
        CHECK(status == SGC_OK ? fold_same(cold, warm)
                               : err.line == cold_err.line && err.column == cold_err.column);
    }
    sgc_fold_free(cold);
    sgc_fold_free(warm);
    return expected != SGC_NOMEM;
}

static bool model_read(sgc__lessons *lessons, sgc_endpoint *endpoint, sgc_plan *plan, const char *model,
                       int from, const char *extra)
{
    char page[PAGE_SIZE];

    return page_read(lessons, endpoint, plan, page, page_write(page, model, from, extra));
}

/* Blocks of memory that `models` models take on TARGETS targets. */
static long taken_by(int models, sgc_plan *plan)
{
    sgc_endpoint *endpoints[TARGETS];
    sgc__lessons lessons = {{NULL}};
    long taken = 0;

    for (int i = 0; i < TARGETS; i++)
        endpoints[i] = endpoint_make();
    for (int round = 0; round < 4; round++) {
        if (round == 1)
            taken = atomic_load(&alloc_live);
        for (int i = 0; i < TARGETS; i++) {
            char model[20];
            snprintf(model, sizeof model, "model %d", i % models);
            CHECK(model_read(&lessons, endpoints[i], plan, model, round * 1000 + i, ""));
        }
    }
    taken = atomic_load(&alloc_live) - taken;
    for (int i = 0; i < TARGETS; i++)
        sgc_endpoint_free(endpoints[i]);
    sgc__lessons_free(&lessons);
    return taken;
}

static void targets_of_the_same_lines_share_what_they_teach(void)
{
    long before, one, two, many;
    sgc_plan *plan;

    alloc_install();
    before = atomic_load(&alloc_live);
    plan = plan_make();
    one = taken_by(1, plan);
    two = taken_by(2, plan);
    many = taken_by(TARGETS, plan);
    sgc_plan_free(plan);
    CHECK(atomic_load(&alloc_live) == before);
    sgc_allocator_set(NULL);
    CHECK_MSG(one > 0 && two == 2 * one && many == TARGETS * one, "%ld, %ld, %ld", one, two, many);
}

static void a_page_of_other_lines_changes_nothing_for_the_others(void)
{
    static const char *const extras[] = {
        "",         "s:g{m=\"x\",tp=\"0\"} 5\n", "s:g{m=\"x\",tp=\"0\"} NaN\n", "s:g{m= 1\n", "# a comment\n",
        "s:g 1 2\n"};
    sgc__lessons lessons = {{NULL}};
    sgc_endpoint *endpoints[TARGETS];
    sgc_plan *plan = plan_make();

    for (int i = 0; i < TARGETS; i++)
        endpoints[i] = endpoint_make();
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < TARGETS; i++) {
            int odd = i % 7 == round % 7 ? (round + i) % 6 : 0;
            CHECK(model_read(&lessons, endpoints[i], plan, i % 5 ? "a" : "b", round * i, extras[odd]));
        }
    for (int i = 0; i < TARGETS; i++)
        sgc_endpoint_free(endpoints[i]);
    sgc__lessons_free(&lessons);
    sgc_plan_free(plan);
}

/* How many of so many pages were learned from; `alike`: they have the same lines. */
static int lessons_of(sgc__lessons *lessons, sgc_endpoint *endpoint, sgc_plan *plan, int pages, bool alike)
{
    sgc__lesson *last = atomic_load(&endpoint->lesson);
    int learned = 0;

    for (int i = 0; i < pages; i++) {
        char model[20];
        snprintf(model, sizeof model, "model %d", alike ? -1 : i);
        CHECK(model_read(lessons, endpoint, plan, model, i, ""));
        sgc__lesson *now = atomic_load(&endpoint->lesson);
        learned += now && now != last;
        last = now;
    }
    return learned;
}

static void a_target_whose_lines_always_change_is_taught_seldom(void)
{
    enum { PAGES = 320, SELDOM = 32 };
    sgc__lessons lessons = {{NULL}};
    sgc_endpoint *endpoint = endpoint_make();
    sgc_plan *plan = plan_make();
    int changing = lessons_of(&lessons, endpoint, plan, PAGES, false);
    int steady = lessons_of(&lessons, endpoint, plan, SELDOM + 1, true);

    CHECK_MSG(changing >= PAGES / SELDOM && changing <= PAGES / SELDOM + 5, "%d", changing);
    CHECK_MSG(steady == 1, "%d", steady);
    CHECK(lessons_of(&lessons, endpoint, plan, 1, false) == 1); /* it has been of use: the next at once */
    sgc_endpoint_free(endpoint);
    sgc__lessons_free(&lessons);
    sgc_plan_free(plan);
}

static void a_lesson_serves_the_plan_it_was_learned_for_alone(void)
{
    sgc__lessons lessons = {{NULL}};
    sgc_endpoint *endpoint = endpoint_make();
    sgc_plan *plans[2] = {plan_make(), plan_make()};

    CHECK(sgc_plan_add(plans[1], &(sgc_extract){.kind = SGC_KIND_LABEL, .by = S("m")}, NULL) == SGC_OK);
    for (int round = 0; round < 8; round++)
        CHECK(model_read(&lessons, endpoint, plans[round / 2 % 2], "a", round, ""));
    sgc_endpoint_free(endpoint);
    sgc__lessons_free(&lessons);
    sgc_plan_free(plans[0]);
    sgc_plan_free(plans[1]);
}

/* Two scrapers with the same endpoints, at the same time. */
typedef struct {
    sgc_endpoint **endpoints;
    sgc_plan *plan;
    int from;
    int wrong;
} driver;

static void *driver_main(void *arg)
{
    driver *d = arg;
    sgc__lessons lessons = {{NULL}};
    sgc_options options;
    char page[PAGE_SIZE];

    sgc_options_init(&options);
    for (int round = 0; round < 100; round++)
        for (int i = 0; i < TARGETS; i++) {
            int from = d->from + round * 100 + i;
            size_t len = page_write(page, "a", from, "");
            sgc_fold *fold = NULL;
            sgc__lessons_fold(&lessons, d->endpoints[i], d->plan, page, len, &options, &fold, NULL);
            d->wrong += !fold || sgc_fold_slot(fold, 0)->value != from;
            sgc_fold_free(fold);
        }
    sgc__lessons_free(&lessons);
    return NULL;
}

static void two_threads_that_share_a_lesson_do_not_mix_their_numbers(void)
{
    sgc_endpoint *endpoints[TARGETS];
    sgc_plan *plan = plan_make();
    driver drivers[2] = {{endpoints, plan, 0, 0}, {endpoints, plan, 1000000, 0}};
    pthread_t threads[2];

    for (int i = 0; i < TARGETS; i++)
        endpoints[i] = endpoint_make();
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, driver_main, &drivers[i]);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(drivers[i].wrong == 0);
    }
    for (int i = 0; i < TARGETS; i++)
        sgc_endpoint_free(endpoints[i]);
    sgc_plan_free(plan);
}

static sgc_plan *shared_plan;

static bool pages_are_read(void)
{
    sgc__lessons lessons = {{NULL}};
    sgc_endpoint *endpoints[2] = {endpoint_make(), endpoint_make()};
    bool ok = endpoints[0] && endpoints[1];

    for (int round = 0; ok && round < 6; round++)
        ok = model_read(&lessons, endpoints[round % 2], shared_plan, "a", round, round == 4 ? "s:g 1\n" : "");
    sgc_endpoint_free(endpoints[0]);
    sgc_endpoint_free(endpoints[1]);
    sgc__lessons_free(&lessons);
    return ok;
}

static void every_allocation_failure_is_survived(void)
{
    shared_plan = plan_make();
    alloc_install();
    long points = alloc_sweep("lessons", pages_are_read);
    sgc_allocator_set(NULL);
    CHECK_MSG(points > 20, "%ld", points);
    sgc_plan_free(shared_plan);
}

int main(void)
{
    CHECK(sgc__http_init());
    targets_of_the_same_lines_share_what_they_teach();
    a_page_of_other_lines_changes_nothing_for_the_others();
    a_target_whose_lines_always_change_is_taught_seldom();
    a_lesson_serves_the_plan_it_was_learned_for_alone();
    two_threads_that_share_a_lesson_do_not_mix_their_numbers();
    every_allocation_failure_is_survived();
    return check_done("test_lesson");
}
