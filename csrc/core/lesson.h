/*
 * lesson.h - what pages have taught, shared by targets whose pages have the same
 * lines. Private to csrc/core.
 */
#ifndef SGC_LESSON_H
#define SGC_LESSON_H

#include "http.h"

/* A steady reading with a count. */
struct sgc__lesson;

void sgc__lesson_free(sgc__lesson *lesson); /* drops one count; any thread */

/* The last ones of a scraper, the newest first; its driver's. */
enum { SGC__LESSONS = 4 };
typedef struct sgc__lessons {
    sgc__lesson *list[SGC__LESSONS];
} sgc__lessons;

void sgc__lessons_free(sgc__lessons *lessons);

/* Folds a page of the endpoint as sgc_plan_fold does: by what its own pages, or
 * those of other targets, have taught. */
sgc_status sgc__lessons_fold(sgc__lessons *lessons, sgc_endpoint *endpoint, sgc_plan *plan, const char *data,
                             size_t len, const sgc_options *options, sgc_fold **fold, sgc_error *err);

#endif
