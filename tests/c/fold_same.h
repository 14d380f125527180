/* fold_same.h - are two folds the same, bit for bit? */
#ifndef FOLD_SAME_H
#define FOLD_SAME_H

#include <string.h>

#include "sgc.h"

static inline bool fold_same_bits(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static inline bool fold_same_text(sgc_str a, sgc_str b)
{
    return a.len == b.len && (!a.len || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool fold_same_hist(const sgc_hist *a, const sgc_hist *b)
{
    if (!a || !b)
        return a == b;
    return a->n == b->n && memcmp(a->bounds, b->bounds, a->n * sizeof *a->bounds) == 0 &&
           memcmp(a->counts, b->counts, a->n * sizeof *a->counts) == 0 && fold_same_bits(a->sum, b->sum) &&
           fold_same_bits(a->count, b->count);
}

static inline bool fold_same_slot(const sgc_slot *a, const sgc_slot *b)
{
    bool same = a->kind == b->kind && a->n_series == b->n_series && a->reason == b->reason &&
                a->bounds_differ == b->bounds_differ && a->n_entries == b->n_entries &&
                (a->kind != SGC_SLOT_VALUE || fold_same_bits(a->value, b->value)) &&
                fold_same_hist(a->hist, b->hist);

    for (size_t i = 0; same && i < a->n_entries; i++)
        same = fold_same_text(a->entries[i].key, b->entries[i].key) &&
               fold_same_bits(a->entries[i].value, b->entries[i].value) &&
               fold_same_hist(a->entries[i].hist, b->entries[i].hist);
    return same;
}

static inline bool fold_same(const sgc_fold *a, const sgc_fold *b)
{
    bool same = sgc_fold_n_slots(a) == sgc_fold_n_slots(b) && sgc_fold_n_samples(a) == sgc_fold_n_samples(b);

    for (size_t i = 0; same && i < sgc_fold_n_slots(a); i++)
        same = fold_same_slot(sgc_fold_slot(a, i), sgc_fold_slot(b, i));
    return same;
}

#endif
