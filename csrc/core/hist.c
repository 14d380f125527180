/*
 * hist.c - histograms of cumulative buckets: check, add, subtract, quantile.
 */
#include "sgc_int.h"

void sgc_hist_free(sgc_hist *hist)
{
    if (!hist)
        return;
    sgc__release(hist->bounds); /* counts lie behind, in one block */
    memset(hist, 0, sizeof *hist);
}

static sgc_status hist_alloc(sgc_hist *hist, size_t n, sgc_error *err)
{
    memset(hist, 0, sizeof *hist);
    hist->bounds = n <= SIZE_MAX / 2 ? sgc__alloc(2 * n, sizeof *hist->bounds) : NULL;
    if (!hist->bounds)
        return sgc__fail_memory(err);
    hist->counts = hist->bounds + n;
    hist->n = n;
    return SGC_OK;
}

const char *sgc__hist_fault(const double *bounds, const double *counts, size_t n)
{
    if (!n || bounds[n - 1] != INFINITY)
        return "no +Inf bucket";
    for (size_t i = 0; i < n; i++) {
        if (bounds[i] != bounds[i])
            return "a bucket bound is NaN";
        if (i && bounds[i] <= bounds[i - 1])
            return "bucket bounds do not rise";
        if (!(counts[i] >= 0))
            return "a bucket count is negative or NaN";
        if (i && counts[i] < counts[i - 1])
            return "bucket counts fall";
    }
    return NULL;
}

sgc_status sgc_hist_init(sgc_hist *hist, const double *bounds, const double *counts, size_t n, double sum,
                         sgc_error *err)
{
    const char *fault = sgc__hist_fault(bounds, counts, n);
    sgc_status status;

    memset(hist, 0, sizeof *hist);
    if (fault)
        return sgc__fail_argument(err, fault, (sgc_str){NULL, 0});
    status = hist_alloc(hist, n, err);
    if (status == SGC_OK) {
        memcpy(hist->bounds, bounds, n * sizeof *bounds);
        memcpy(hist->counts, counts, n * sizeof *counts);
        hist->count = counts[n - 1];
        hist->sum = sum;
    }
    return status;
}

void sgc__hist_merge(sgc_hist *out, const sgc_hist *a, const sgc_hist *b, double sign)
{
    size_t n = 0;

    for (size_t i = 0, j = 0; i < a->n && j < b->n;) {
        if (a->bounds[i] < b->bounds[j]) {
            i++;
        } else if (a->bounds[i] > b->bounds[j]) {
            j++;
        } else {
            out->bounds[n] = a->bounds[i];
            out->counts[n++] = a->counts[i++] + sign * b->counts[j++];
        }
    }
    out->sum = a->sum + sign * b->sum;
    out->count = a->count + sign * b->count;
    out->n = n;
}

sgc_status sgc_hist_add(sgc_hist *out, const sgc_hist *a, const sgc_hist *b, sgc_error *err)
{
    sgc_status status = hist_alloc(out, a->n < b->n ? a->n : b->n, err);

    if (status == SGC_OK)
        sgc__hist_merge(out, a, b, 1.0);
    return status;
}

/* Did anything that only grows become smaller? Sums of negative observations
 * may fall by themselves, so that they do not count. */
static bool has_fallen(const sgc_hist *difference)
{
    for (size_t i = 0; i < difference->n; i++)
        if (difference->counts[i] < 0)
            return true;
    return difference->count < 0;
}

/* A page rendered while counts move can make the difference of one bucket fall
 * below that of the one before; like PromQL, it is raised to it. */
static void counts_straighten(sgc_hist *hist)
{
    for (size_t i = 1; i < hist->n; i++)
        if (hist->counts[i] < hist->counts[i - 1])
            hist->counts[i] = hist->counts[i - 1];
    hist->count = hist->n ? hist->counts[hist->n - 1] : hist->count;
}

sgc_status sgc_hist_sub(sgc_hist *out, const sgc_hist *later, const sgc_hist *earlier, bool *restarted,
                        sgc_error *err)
{
    sgc_status status = hist_alloc(out, later->n < earlier->n ? later->n : earlier->n, err);

    *restarted = false;
    if (status != SGC_OK)
        return status;
    sgc__hist_merge(out, later, earlier, -1.0);
    if (!has_fallen(out)) {
        counts_straighten(out);
        return SGC_OK;
    }
    *restarted = true;
    sgc_hist_free(out);
    return sgc_hist_init(out, later->bounds, later->counts, later->n, later->sum, err);
}

double sgc_hist_mean(const sgc_hist *hist)
{
    return hist->count > 0 ? hist->sum / hist->count : NAN;
}

/* The rules are those of Prometheus's bucketQuantile (promql/quantile.go). */
double sgc_hist_quantile(const sgc_hist *hist, double q, size_t *bucket)
{
    double total = hist->n ? hist->counts[hist->n - 1] : 0, rank = q * total;
    double low, high, below;
    size_t at = 0;

    if (bucket)
        *bucket = 0;
    if (!(total > 0) || !(q >= 0) || q > 1)
        return NAN;
    while (at < hist->n - 1 && hist->counts[at] < rank)
        at++;
    if (bucket)
        *bucket = at;
    if (at == hist->n - 1)
        return at ? hist->bounds[at - 1] : NAN;
    high = hist->bounds[at];
    if (at == 0 && high <= 0)
        return high;
    low = at ? hist->bounds[at - 1] : 0;
    below = at ? hist->counts[at - 1] : 0;
    return low + (high - low) * ((rank - below) / (hist->counts[at] - below));
}
