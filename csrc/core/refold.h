/*
 * refold.h - lines of a page that was folded before, folded into another page's
 * gathers without being read again. Private to steady.c.
 */
#ifndef SGC_REFOLD_H
#define SGC_REFOLD_H

#include "fold.h"

typedef struct {
    folder *f;          /* gets them */
    const folder *from; /* had them; its gathers have ended, and do not change */
    const feed_log *log;
    uint32_t *rows; /* by row of `from`, gather after gather: the row of f, or UINT32_MAX */
    size_t *first;  /* by gather: where its rows begin */
    size_t shown;   /* what the label extracts were shown last, if it was by sgc__refold_line; or SIZE_MAX */
} refold;

#define SGC__NOT_SHOWN UINT32_MAX

/* False: no memory. Freed in any case. */
bool sgc__refold_init(refold *re, folder *f, const folder *from, const feed_log *log);
void sgc__refold_free(refold *re);

/* Does with `value` what the sample did whose feeds begin at `feeds` in the log,
 * and whose labels are those shown at `shown`, or SGC__NOT_SHOWN. False: no memory. */
bool sgc__refold_line(refold *re, uint32_t line, size_t feeds, size_t shown, double value);

#endif
