/*
 * result.c - failures and results: what every scrape ends in, and how the body
 * of an answer becomes one.
 */
#include "pending.h"
#include "pool.h"

#include <stdarg.h>
#include <stdio.h>

const char *sgc_reason_slug(sgc_reason reason)
{
    static const char *const slugs[] = {
#define REASON_SLUG(name, slug, kind) [SGC_REASON_##name] = (slug),
        SGC_REASON_LIST(REASON_SLUG)
#undef REASON_SLUG
    };
    return (size_t)reason < sizeof slugs / sizeof *slugs ? slugs[reason] : "";
}

sgc_fail_kind sgc_reason_kind(sgc_reason reason)
{
    static const sgc_fail_kind kinds[] = {
#define REASON_KIND(name, slug, kind) [SGC_REASON_##name] = SGC_FAIL_##kind,
        SGC_REASON_LIST(REASON_KIND)
#undef REASON_KIND
    };
    return (size_t)reason < sizeof kinds / sizeof *kinds ? kinds[reason] : SGC_FAIL_SCRAPE;
}

void sgc__failure_set(sgc_failure *failure, sgc_reason reason, const char *format, ...)
{
    va_list args;

    if (failure->reason != SGC_REASON_NONE)
        return;
    failure->reason = reason;
    failure->retry_after = NAN;
    va_start(args, format);
    vsnprintf(failure->what, sizeof failure->what, format, args);
    va_end(args);
}

void sgc__failure_memory(sgc_failure *failure)
{
    if (failure->reason == SGC_REASON_NONE)
        sgc__fail_memory(&failure->parse);
    sgc__failure_set(failure, SGC_REASON_OUT_OF_MEMORY, "no memory left to read the answer");
}

void sgc__failure_limit(sgc_failure *failure, const char *limit, uint64_t allowed)
{
    if (failure->reason == SGC_REASON_NONE)
        sgc__fail_limit(&failure->parse, limit, allowed);
    sgc__failure_set(failure, SGC_REASON_LIMIT, "%s passed; the limit is %llu", limit,
                     (unsigned long long)allowed);
}

void sgc_body_free(char *body, size_t room)
{
    sgc__pool_give(body, room);
}

void sgc_result_free(sgc_result *result)
{
    if (!result)
        return;
    sgc_body_free(result->body, result->body_room);
    sgc_fold_free(result->fold);
    sgc__release(result);
}

/* ------------------------------------------------------------------ reading */

static void read_page(sgc__transfer *transfer, sgc__lessons *lessons)
{
    sgc_result *result = transfer->result;
    sgc_options options;
    sgc_error err;
    sgc_status status;

    sgc_options_init(&options);
    options.format = result->format;
    options.limits = transfer->endpoint->limits;
    status = sgc__lessons_fold(lessons, transfer->endpoint, transfer->plan, result->body, result->body_len,
                               &options, &result->fold, &err);
    if (status == SGC_OK)
        return;
    if (status == SGC_NOMEM)
        sgc__failure_memory(&result->failure);
    else if (status == SGC_LIMIT)
        sgc__failure_limit(&result->failure, err.limit, err.allowed);
    else
        sgc__failure_set(&result->failure, SGC_REASON_MALFORMED, "line %llu, column %llu: %s",
                         (unsigned long long)err.line, (unsigned long long)err.column, err.reason);
    result->failure.parse = err;
    sgc_body_free(result->body, result->body_room);
    result->body = NULL;
    result->body_len = 0;
}

void sgc__transfer_take(sgc__transfer *transfer, sgc__answer *answer, sgc__lessons *lessons)
{
    sgc_result *result = transfer->result;

    result->body = answer->body.ptr;
    result->body_len = answer->body.len;
    result->body_room = answer->body.room;
    sgc__buf_init(&answer->body, 0);
    atomic_store_explicit(&transfer->endpoint->body, result->body_len, memory_order_relaxed);
    if (transfer->plan && !transfer->endpoint->json)
        read_page(transfer, lessons);
}
