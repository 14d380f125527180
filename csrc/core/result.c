/*
 * result.c - failures and results: what every scrape ends in.
 */
#include "answer.h"

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

void sgc_body_free(char *body)
{
    sgc__release(body);
}

void sgc_result_free(sgc_result *result)
{
    if (!result)
        return;
    sgc_body_free(result->body);
    sgc_fold_free(result->fold);
    sgc__release(result);
}
