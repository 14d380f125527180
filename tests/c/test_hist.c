/* Histogram arithmetic, and quantiles as PromQL gives them. */
#include <math.h>

#include "check.h"
#include "sgc_int.h"

static sgc_hist make(size_t n, const double *bounds, const double *counts, double sum)
{
    sgc_hist hist;
    sgc_error err;

    CHECK_MSG(sgc_hist_init(&hist, bounds, counts, n, sum, &err) == SGC_OK, "%s", err.reason);
    return hist;
}

#define MAKE(sum, n, ...) \
    make(n, (const double[2][n]){__VA_ARGS__}[0], (const double[2][n]){__VA_ARGS__}[1], sum)

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * (fabs(a) + fabs(b));
}

static void test_a_quantile_interpolates_inside_its_bucket(void)
{
    sgc_hist h = MAKE(10, 4, {1, 2, 4, INFINITY}, {2, 4, 8, 10});
    size_t bucket;

    CHECK(near(sgc_hist_quantile(&h, 0.1, &bucket), 0.5) && bucket == 0);
    CHECK(near(sgc_hist_quantile(&h, 0.5, &bucket), 2.5) && bucket == 2);
    CHECK(near(sgc_hist_quantile(&h, 0.4, &bucket), 2.0) && bucket == 1);
    CHECK(sgc_hist_quantile(&h, 0.95, &bucket) == 4 && bucket == 3);
    CHECK(sgc_hist_quantile(&h, 1, NULL) == 4 && sgc_hist_quantile(&h, 0, NULL) == 0);
    CHECK(isnan(sgc_hist_quantile(&h, -0.1, NULL)) && isnan(sgc_hist_quantile(&h, 1.1, NULL)) &&
          isnan(sgc_hist_quantile(&h, NAN, NULL)));
    CHECK(sgc_hist_mean(&h) == 1);
    sgc_hist_free(&h);
}

static void test_the_edges_are_those_of_promql(void)
{
    sgc_hist negative = MAKE(0, 3, {-1, 1, INFINITY}, {5, 5, 10}), alone = MAKE(1, 1, {INFINITY}, {3});
    sgc_hist empty = MAKE(0, 2, {1, INFINITY}, {0, 0});

    CHECK(sgc_hist_quantile(&negative, 0.3, NULL) == -1);
    CHECK(isnan(sgc_hist_quantile(&alone, 0.5, NULL)) && isnan(sgc_hist_quantile(&empty, 0.5, NULL)));
    CHECK(isnan(sgc_hist_mean(&empty)));
    sgc_hist_free(&negative), sgc_hist_free(&alone), sgc_hist_free(&empty);
}

static void test_adding_takes_the_common_bounds(void)
{
    sgc_hist a = MAKE(1, 3, {1, 2, INFINITY}, {1, 2, 3}), b = MAKE(2, 3, {2, 5, INFINITY}, {10, 20, 30}), out;

    CHECK(sgc_hist_add(&out, &a, &b, NULL) == SGC_OK);
    CHECK(out.n == 2 && out.bounds[0] == 2 && out.counts[0] == 12 && out.counts[1] == 33 && out.count == 33 &&
          out.sum == 3);
    sgc_hist_free(&a), sgc_hist_free(&b), sgc_hist_free(&out);
    CHECK(out.n == 0 && !out.bounds);
}

static void test_a_difference_is_the_window_and_a_fall_a_restart(void)
{
    sgc_hist early = MAKE(5, 3, {1, 2, INFINITY}, {1, 3, 4}), late = MAKE(9, 3, {1, 2, INFINITY}, {2, 5, 8}),
             out;
    bool restarted;

    CHECK(sgc_hist_sub(&out, &late, &early, &restarted, NULL) == SGC_OK && !restarted);
    CHECK(out.counts[0] == 1 && out.counts[1] == 2 && out.counts[2] == 4 && out.count == 4 && out.sum == 4);
    sgc_hist_free(&out);
    CHECK(sgc_hist_sub(&out, &early, &late, &restarted, NULL) == SGC_OK && restarted);
    CHECK(out.count == 4 && out.sum == 5);
    sgc_hist_free(&out), sgc_hist_free(&early), sgc_hist_free(&late);
}

static void test_what_is_no_histogram_is_refused(void)
{
    static const double bounds[] = {1, 2, INFINITY}, falling[] = {2, 1, INFINITY}, finite[] = {1, 2, 3};
    static const double counts[] = {1, 2, 3}, down[] = {3, 2, 3}, negative[] = {-1, 2, 3},
                        nan[] = {1, NAN, 3};
    sgc_hist out;

    CHECK(sgc_hist_init(&out, falling, counts, 3, 0, NULL) == SGC_ARGUMENT && !out.bounds);
    CHECK(sgc_hist_init(&out, finite, counts, 3, 0, NULL) == SGC_ARGUMENT);
    CHECK(sgc_hist_init(&out, bounds, down, 3, 0, NULL) == SGC_ARGUMENT);
    CHECK(sgc_hist_init(&out, bounds, negative, 3, 0, NULL) == SGC_ARGUMENT);
    CHECK(sgc_hist_init(&out, bounds, nan, 3, 0, NULL) == SGC_ARGUMENT);
    CHECK(sgc_hist_init(&out, bounds, counts, 0, 0, NULL) == SGC_ARGUMENT);
}

int main(void)
{
    test_a_quantile_interpolates_inside_its_bucket();
    test_the_edges_are_those_of_promql();
    test_adding_takes_the_common_bounds();
    test_a_difference_is_the_window_and_a_fall_a_restart();
    test_what_is_no_histogram_is_refused();
    return check_done("test_hist");
}
