/* wanted.h - the plan that the fold targets use, and the same fold told naively. */
#ifndef WANTED_H
#define WANTED_H

#include "fuzz.h"

/* Ranks that collapse, `where` of every kind, `by`, aliases, histograms: what the
 * catalogue asks for, on few names. */
extern const sgc_str wanted_prefixes[];
extern const size_t wanted_n_prefixes;
extern const sgc_extract wanted_extracts[];
extern const size_t wanted_n_extracts;

/* The plan, made once. */
sgc_plan *wanted_plan(void);

/* What sgc_plan_fold should have found, told from the samples of the page by
 * comparing everything with everything. Ends the program where it differs.
 * Nothing is compared where a TYPE line comes behind samples that it is about:
 * a fold takes a sample as what it was when it was read. */
void naive_check(const sgc_fold *fold, const sgc_page *page, const char *data, size_t len);

#endif
