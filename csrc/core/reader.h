/*
 * reader.h - what sample.c and parse.c, the two halves of the parser, share.
 *
 * A *_read function takes the position of what it reads and returns the one
 * behind it, or NULL once the parser holds an error.
 */
#ifndef SGC_READER_H
#define SGC_READER_H

#include "parse.h"
#include "simd.h"

/* Reading stops by NULL; what it was is in `status`. */
typedef struct sgc__reader {
    sgc__parser *ps;
    bool om;
    bool strict;
    bool short_numbers; /* the limits allow every number of 16 bytes */
    sgc_status status;
} sgc__reader;

/* Each records the error and returns NULL. A byte that is no UTF-8 is called
 * that, whatever else was expected there. */
SGC_NOINLINE const char *sgc__fail_at(sgc__reader *r, const char *reason, const char *at);
SGC_NOINLINE const char *sgc__fail_fault(sgc__reader *r, sgc__fault fault);
SGC_NOINLINE const char *sgc__reader_no_memory(sgc__reader *r);

/* Blanks where the format allows any. */
static inline const char *sgc__blanks_read(const sgc__reader *r, const char *p)
{
    return r->om ? p : sgc__scan_blanks(p, r->ps->end);
}

/* The end of a line, from where only blanks may stand; the page may end without a newline. */
const char *sgc__line_end_read(sgc__reader *r, const char *p, const char *expected);
/* The space of OpenMetrics before a value or text, or any blanks. */
const char *sgc__gap_read(sgc__reader *r, const char *p, const char *expected);
/* A metric name, plain or quoted, escapes resolved; *odd where it has any. */
const char *sgc__name_read(sgc__reader *r, const char *p, sgc_str *name, bool *odd);
/* A name that outlives the line; false: out of memory. */
bool sgc__name_keep(sgc__parser *ps, sgc_str *name);
/* The family of the sample, by its name and the family at hand; false: out of memory. */
bool sgc__family_resolve(sgc__parser *ps, sgc__sample *s);
/* Sample lines that are one of the models' but for name and label values, as many
 * as follow each other, handed to the receiver. Returns the first line that is none. */
const char *sgc__repeats_read(sgc__reader *r, const char *p);
/* Makes `s`, whose series ends before `series_end`, the first model, in the place of
 * the one that was of use the longest ago. Tells `s` its layout. */
void sgc__model_set(sgc__parser *ps, sgc__sample *s, const char *series_end);
/* A whole token that is not empty as a value of the format; false: it is none. */
bool sgc__value_token_read(sgc_str token, bool om, double *value);
/* From behind the series: value, what may follow it, the end of the line. */
const char *sgc__rest_read(sgc__reader *r, const char *p, sgc__sample *s);
/* The same where it is a space, a short number and the end of the line; NULL: it is not. */
static inline const char *sgc__short_rest(const sgc__reader *r, const char *p, double *value)
{
    return r->short_numbers && p < r->ps->end && *p == ' ' ? sgc__short_value(p + 1, r->ps->end, value)
                                                           : NULL;
}
/* The error of one sample too many; NULL. */
SGC_NOINLINE const char *sgc__samples_fail(sgc__reader *r, const sgc__sample *s);
/* Does the sample keep the rules of strict OpenMetrics? False: the error is recorded. */
bool sgc__strict_passes(sgc__reader *r, const sgc__sample *s);

/* Counts the sample and hands it on; its family is known, and p is behind its line. */
static inline const char *sgc__sample_emit(sgc__reader *r, const char *p, sgc__sample *s)
{
    sgc__parser *ps = r->ps;

    if (SGC_UNLIKELY(ps->n_samples >= ps->options.limits.samples || ps->n_samples >= UINT32_MAX))
        return sgc__samples_fail(r, s);
    if (SGC_UNLIKELY(ps->strict != NULL) && !sgc__strict_passes(r, s))
        return NULL;
    s->next = p;
    r->status = ps->sample(ps->self, ps, s);
    ps->n_samples++;
    return r->status == SGC_OK ? p : NULL;
}
/* Room for label n of a line; false: out of memory. */
bool sgc__labels_room(sgc__parser *ps, size_t n);
/* A whole sample line and those that repeat it, handed to the receiver. */
const char *sgc__sample_read(sgc__reader *r, const char *p);

#endif
