/*
 * plan.h - a compiled plan, as plan.c makes it and fold.c reads it. Private.
 */
#ifndef SGC_PLAN_H
#define SGC_PLAN_H

#include <stdatomic.h>

#include "parse.h"

#define SGC__NO_WANT UINT32_MAX

enum { SGC__LOWEST_MAX = 4 };

/* One extract's interest in one metric name. */
typedef struct sgc__want {
    uint32_t extract;
    uint32_t rank; /* place of the name among the extract's: the lowest on the page counts */
    uint32_t next; /* another extract's interest in the same name, or SGC__NO_WANT */
} sgc__want;

typedef struct sgc__wanted_name {
    sgc_str name; /* prefix included */
    uint32_t first;
} sgc__wanted_name;

/* Numbers from 0 on: equal for extracts that ask the same of labels, and for those that
 * tell rows apart by the same labels. */
typedef struct sgc__ask {
    uint32_t rule;
    uint32_t key;
} sgc__ask;

struct sgc_plan {
    atomic_uint count;
    sgc__arena arena;
    sgc_str *prefixes;
    size_t n_prefixes;
    sgc_extract *extracts; /* deep copies; `names` is not kept */
    size_t n_extracts;
    sgc__ask *asks; /* by extract */
    uint32_t n_rules;
    uint32_t n_keys;
    sgc__wanted_name *names;
    size_t n_names;
    sgc__want *wants;
    size_t n_wants;
    uint32_t *label_extracts; /* those of the kind LABEL, which every sample is shown */
    size_t n_label_extracts;
    sgc__index index;
};

/* The first interest in that name, or SGC__NO_WANT. */
uint32_t sgc__plan_find(const sgc_plan *plan, sgc_str name);

#endif
