/* Every allocation fails once, and from then on: nothing crashes, nothing leaks,
 * outputs are empty, and the next call is right. */
#include <math.h>

#include "alloc.h"
#include "sgc_int.h"
#include "sgc_scrape.h"

#define S(text) {(text), sizeof(text) - 1}

static const char text_page[] =
    "# HELP s:h help\n# TYPE s:h histogram\n"
    "s:h_bucket{m=\"q\\\"\",tp=\"1\",le=\"1\"} 1\ns:h_bucket{m=\"q\\\"\",tp=\"1\",le=\"+Inf\"} 2\n"
    "s:h_bucket{m=\"q\\\"\",tp=\"0\",le=\"+Inf\"} 3\ns:h_sum{tp=\"0\",m=\"q\\\"\"} 3\n"
    "s:g{z=\"1\",a=\"x\\n\",tp=\"0\"} 5 123\ns:g{tp=\"1\"} 6\n{\"s:q\\\"\",\"l\\\\\"=\"1\"} 7\n";
static const char openmetrics_page[] = "# TYPE s:c counter\n# HELP s:c x\ns:c_total{b=\"1\",a=\"2\"} 5 1 # "
                                       "{t=\"1\"} 2 3\ns:c_total{b=\"1\",a=\"3\"} 5 1\n"
                                       "# TYPE s:h histogram\ns:h_bucket{le=\"1\"} "
                                       "1\ns:h_bucket{le=\"+Inf\"} 2\ns:h_count 2\ns:h_sum 1\n# EOF\n";

static bool page_parses(const char *text, sgc_format format, bool strict)
{
    sgc_options options;
    sgc_page *page;
    sgc_error err;
    sgc_status status;

    sgc_options_init(&options);
    options.format = format;
    options.strict = strict;
    status = sgc_page_parse(text, strlen(text), &options, &page, &err);
    CHECK_MSG((status == SGC_OK) == (page != NULL) &&
                  (status == SGC_OK || (status == SGC_NOMEM && err.code == SGC_NOMEM)),
              "status %d, %s at %d", status, err.reason, (int)err.line);
    sgc_page_free(page);
    return status == SGC_OK;
}

static bool text_parses(void)
{
    return page_parses(text_page, SGC_FORMAT_TEXT, false);
}

static bool strict_parses(void)
{
    return page_parses(openmetrics_page, SGC_FORMAT_OPENMETRICS, true);
}

/* More than one chunk of everything: tables grow, arenas extend. */
static char *big_page;

static bool big_parses(void)
{
    return page_parses(big_page, SGC_FORMAT_TEXT, false);
}

static void big_page_make(void)
{
    size_t used = 0, room = 200000;

    big_page = malloc(room);
    for (int i = 0; big_page && i < 300; i++)
        used += (size_t)snprintf(big_page + used, room - used,
                                 "# TYPE s:family_%d gauge\ns:family_%d{a=\"%d\"} %d\ns:g{id=\"%d\\n\"} 1\n",
                                 i, i, i, i, i);
}

static sgc_plan *plan_make(sgc_status *status)
{
    static const sgc_str prefixes[] = {S("s:"), S("s_")}, without[] = {S("tp")}, h[] = {S("h")},
                         g[] = {S("g"), S("old")};
    static const sgc_str values[] = {S("q"), S("x\n")};
    static const sgc_cond where = {S("a"), SGC_OP_IS, true, values, 2};
    const sgc_extract extracts[] = {
        {.kind = SGC_KIND_HISTOGRAM,
         .names = h,
         .n_names = 1,
         .without = without,
         .n_without = 1,
         .lowest = without,
         .n_lowest = 1},
        {.names = g, .n_names = 2, .where = &where, .n_where = 1},
        {.names = g, .n_names = 2, .by = S("id"), .without = without, .n_without = 1},
        {.kind = SGC_KIND_LABEL, .by = S("tp")},
    };
    sgc_plan *plan;
    sgc_error err;

    *status = sgc_plan_new(prefixes, 2, &plan, &err);
    for (size_t i = 0; *status == SGC_OK && i < 4; i++) {
        *status = sgc_plan_add(plan, &extracts[i], &err);
        CHECK(sgc_plan_n_extracts(plan) == i + (*status == SGC_OK));
    }
    CHECK(*status == SGC_OK || (*status == SGC_NOMEM && err.code == SGC_NOMEM));
    return plan;
}

static bool plan_is_made(void)
{
    sgc_status status;

    sgc_plan_free(plan_make(&status));
    return status == SGC_OK;
}

/* An extract that could not be added leaves no trace: the next one works. */
static bool plan_folds_after_a_failure(void)
{
    static const sgc_str prefix = S("s:"), g = S("g");
    static const sgc_extract extract = {.names = &g, .n_names = 1};
    sgc_options options;
    sgc_plan *plan;
    sgc_fold *fold = NULL;
    sgc_status status = sgc_plan_new(&prefix, 1, &plan, NULL);
    long fail_at = alloc_fail_at;

    sgc_options_init(&options);
    if (status == SGC_OK && (status = sgc_plan_add(plan, &extract, NULL)) != SGC_OK) {
        alloc_fail_at = -1;
        CHECK(sgc_plan_add(plan, &extract, NULL) == SGC_OK && sgc_plan_n_extracts(plan) == 1);
        CHECK(sgc_plan_fold(plan, "s:g 4\n", 6, &options, &fold, NULL) == SGC_OK &&
              sgc_fold_slot(fold, 0)->value == 4);
        alloc_fail_at = fail_at;
    }
    sgc_fold_free(fold);
    sgc_plan_free(plan);
    return status == SGC_OK;
}

static sgc_plan *shared_plan;

static bool folds(const char *text)
{
    sgc_options options;
    sgc_fold *fold;
    sgc_error err;
    sgc_status status;

    sgc_options_init(&options);
    status = sgc_plan_fold(shared_plan, text, strlen(text), &options, &fold, &err);
    CHECK((status == SGC_OK) == (fold != NULL) &&
          (status == SGC_OK || (status == SGC_NOMEM && err.code == SGC_NOMEM)));
    sgc_fold_free(fold);
    return status == SGC_OK;
}

static bool page_folds(void)
{
    return folds(text_page);
}

static bool big_folds(void)
{
    return folds(big_page);
}

static bool histograms_add(void)
{
    static const double bounds[] = {1, 2, INFINITY}, counts[] = {1, 2, 3};
    sgc_hist a = {.n = 0}, b = {.n = 0}, sum = {.n = 0}, difference = {.n = 0};
    bool restarted, ok;

    ok = sgc_hist_init(&a, bounds, counts, 3, 1, NULL) == SGC_OK &&
         sgc_hist_init(&b, bounds, counts, 3, 1, NULL) == SGC_OK &&
         sgc_hist_add(&sum, &a, &b, NULL) == SGC_OK &&
         sgc_hist_sub(&difference, &a, &sum, &restarted, NULL) == SGC_OK;
    sgc_hist_free(&a), sgc_hist_free(&b), sgc_hist_free(&sum), sgc_hist_free(&difference);
    return ok;
}

static sgc_endpoint *shared_endpoint;

static sgc_endpoint *endpoint_new(void)
{
    sgc_endpoint_options options;
    sgc_endpoint *endpoint = NULL;
    sgc_failure failure;

    sgc_endpoint_options_init(&options);
    options.url = (sgc_str){"http://127.0.0.1:1/", 19};
    CHECK(sgc_endpoint_new(&options, &endpoint, &failure, NULL) == SGC_OK && endpoint);
    return endpoint;
}

/* All of them, or none. */
static bool scrapes_are_submitted(void)
{
    enum { MANY = 70 };
    sgc_scraper_options options;
    sgc_scraper *scraper = NULL;
    sgc_endpoint *endpoints[MANY];
    uint64_t first = 1;
    sgc_status status = SGC_NOMEM;

    for (int i = 0; i < MANY; i++)
        endpoints[i] = shared_endpoint;
    sgc_scraper_options_init(&options);
    if (sgc_scraper_new(&options, &scraper, NULL) == SGC_OK) {
        status = sgc_scraper_submit_all(scraper, endpoints, MANY, NULL, &first, NULL);
        CHECK(sgc_scraper_pending(scraper) == (status == SGC_OK ? MANY : 0));
        CHECK(first == (status == SGC_OK ? 1 : 0));
    }
    sgc_scraper_free(scraper);
    return status == SGC_OK;
}

static void test_a_buffer_stops_at_its_ceiling(void)
{
    sgc__buf buf;

    sgc__buf_init(&buf, 10);
    CHECK(sgc__buf_append(&buf, "12345", 5) == SGC_OK && sgc__buf_append(&buf, "67890", 5) == SGC_OK &&
          buf.len == 10);
    CHECK(sgc__buf_append(&buf, "1", 1) == SGC_LIMIT && buf.len == 0 && !buf.ptr);
    CHECK(sgc__buf_append(&buf, "1", 1) == SGC_OK);
    sgc__buf_free(&buf);
}

static void test_sizes_that_overflow_are_no_memory(void)
{
    sgc__arena arena;

    sgc__arena_init(&arena);
    CHECK(!sgc__alloc(SIZE_MAX / 2, 3) && !sgc__resize(NULL, SIZE_MAX, 2) &&
          !sgc__arena_alloc(&arena, SIZE_MAX, 2));
    CHECK(!sgc__arena_alloc(&arena, SIZE_MAX, 1));
    sgc__arena_free(&arena);
}

int main(void)
{
    long points = 0;
    sgc_status status;

    alloc_install();
    big_page_make();
    shared_plan = plan_make(&status);
    points += alloc_sweep("a text page", text_parses);
    points += alloc_sweep("a strict OpenMetrics page", strict_parses);
    points += alloc_sweep("a page of many families", big_parses);
    points += alloc_sweep("a plan", plan_is_made);
    points += alloc_sweep("an extract", plan_folds_after_a_failure);
    points += alloc_sweep("a fold", page_folds);
    points += alloc_sweep("a fold of many series", big_folds);
    points += alloc_sweep("histograms", histograms_add);
    shared_endpoint = endpoint_new();
    points += alloc_sweep("scrapes that are submitted together", scrapes_are_submitted);
    sgc_endpoint_free(shared_endpoint);
    sgc_plan_free(shared_plan);
    test_a_buffer_stops_at_its_ceiling();
    test_sizes_that_overflow_are_no_memory();
    CHECK(atomic_load(&alloc_live) == 0);
    free(big_page);
    printf("test_memory: %ld failing allocations\n", points);
    return check_done("test_memory");
}
