/*
 * hub.h - what a scraper has in one process: its connections, and the scrapes that
 * are pending. Private to csrc/core.
 */
#ifndef SGC_HUB_H
#define SGC_HUB_H

#include "handles.h"

#include <pthread.h>

typedef struct sgc__hub {
    uint64_t process;      /* the one it belongs to */
    struct sgc__hub *next; /* among the forsaken */
    size_t max_connections;
    const sgc_guard *guard;
    sgc__shards shards;
    atomic_bool driven; /* a thread is inside wait */
    atomic_bool woken;
    atomic_size_t pending; /* submitted, result not returned */

    pthread_mutex_t lock; /* the next five */
    sgc__link incoming;
    sgc__link cancelled;
    sgc__roster roster; /* submitted, not over */
    uint64_t last_id;
    bool nudged; /* the driver will look at the lists again */

    /* the driver's */
    sgc__link ready; /* may begin when there is a connection */
    sgc__link named; /* ... and a look-up */
    sgc__link done;  /* over, not returned */
    sgc__link young; /* under way, and not for long; the oldest first */
    size_t n_young;
    size_t active;
    sgc__heap deadlines;
    sgc__handles handles;
    sgc__lookups lookups;
    sgc__lessons lessons;
} sgc__hub;

sgc__hub *sgc__hub_new(const sgc_scraper_options *options); /* NULL: no memory */
void sgc__hub_free(sgc__hub *hub);

/* Of a process that this one was forked from: never touched, but not lost. */
void sgc__hub_forsake(sgc__hub *hub);

#endif
