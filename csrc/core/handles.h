/*
 * handles.h - a scraper's easy handles and its allowance of name look-ups.
 * Private to csrc/core; used by the one thread that drives the scraper.
 */
#ifndef SGC_HANDLES_H
#define SGC_HANDLES_H

#include "pending.h"
#include "shard.h"

typedef struct sgc__handle {
    sgc__http http;
    sgc__link idle; /* among those not in use, longest idle first; or alone */
    unsigned number;
    unsigned sibling;        /* number of one that was set up for its endpoint before it */
    int64_t warm_until;      /* until then its endpoint needs no look-up */
    sgc__transfer *transfer; /* that it is in use by, or NULL */
} sgc__handle;

typedef struct sgc__handles {
    sgc__handle **items;
    size_t n;
    size_t room;
    size_t most;
    sgc__link idle;
    sgc__shards *shards;
} sgc__handles;

void sgc__handles_init(sgc__handles *handles, size_t most, sgc__shards *shards);
void sgc__handles_free(sgc__handles *handles);

/* A handle set up for `endpoint`, best the one that was. NULL: no memory. While
 * fewer than `most` are in use there is one. */
sgc__handle *sgc__handles_take(sgc__handles *handles, sgc_endpoint *endpoint);
void sgc__handles_give(sgc__handles *handles, sgc__handle *handle);
/* What was remembered of addresses and connections of shards that are lost is gone. */
void sgc__handles_cool(sgc__handles *handles);

/* Will a scrape of `endpoint` most likely need no look-up? Its connection is
 * kept, or its address remembered. */
bool sgc__handles_warm(const sgc__handles *handles, const sgc_endpoint *endpoint, int64_t now);

/* Look-ups in flight. One that is given up goes on in a thread of libcurl's for
 * as long as the resolver has patience, and is counted for that time. */
typedef struct sgc__lookups {
    size_t most;
    size_t active; /* of exchanges under way */
    int64_t *gone; /* a ring: when those given up will be over */
    size_t first;
    size_t n_gone;
} sgc__lookups;

bool sgc__lookups_init(sgc__lookups *lookups, size_t most);     /* false: no memory */
bool sgc__lookups_free_one(sgc__lookups *lookups, int64_t now); /* may one more begin? */
void sgc__lookups_give_up(sgc__lookups *lookups, int64_t now);
int64_t sgc__lookups_next(const sgc__lookups *lookups); /* when the oldest given up is over; INT64_MAX */

#endif
