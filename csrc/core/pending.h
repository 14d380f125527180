/*
 * pending.h - the scrapes that were submitted and are not over: found by id in
 * constant time, and by the deadline that comes first. Private to csrc/core.
 */
#ifndef SGC_PENDING_H
#define SGC_PENDING_H

#include "lesson.h"

/* A node of a circular list, inside what is listed. A list is a node too. */
typedef struct sgc__link {
    struct sgc__link *prev, *next;
} sgc__link;

#define SGC__OF(link, type, member) ((type *)(void *)((char *)(link) - offsetof(type, member)))

static inline void sgc__list_init(sgc__link *list)
{
    list->prev = list->next = list;
}

static inline bool sgc__list_empty(const sgc__link *list)
{
    return list->next == list;
}

static inline void sgc__list_push(sgc__link *list, sgc__link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

/* A link that is in no list may be removed as well. */
static inline void sgc__list_remove(sgc__link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    sgc__list_init(link);
}

/* Moves all of `from` behind what is in `to`. */
static inline void sgc__list_move(sgc__link *to, sgc__link *from)
{
    while (!sgc__list_empty(from)) {
        sgc__link *link = from->next;
        sgc__list_remove(link);
        sgc__list_push(to, link);
    }
}

/* One scrape from submission to result. */
typedef struct sgc__transfer {
    sgc__link queue;            /* where it waits: incoming, ready, named or done; or among the young */
    sgc__link cancelled;        /* in the list of those to be cancelled, or alone */
    struct sgc__transfer *next; /* in its bucket */
    uint64_t id;
    sgc_endpoint *endpoint;
    sgc_plan *plan;
    sgc_result *result;
    int64_t submitted; /* nanoseconds of the monotonic clock */
    int64_t deadline;
    int64_t began;              /* its request, or the second one */
    size_t place;               /* in the heap; SIZE_MAX: not there */
    struct sgc__handle *handle; /* while it is under way */
    bool named;                 /* has to look a name up */
} sgc__transfer;

/* Of a list by `queue`; NULL where it is empty. */
static inline sgc__transfer *sgc__first_of(const sgc__link *list)
{
    return sgc__list_empty(list) ? NULL : SGC__OF(list->next, sgc__transfer, queue);
}

enum { SGC__SECOND = 1000000000 };

int64_t sgc__now(void); /* nanoseconds of the monotonic clock */

/* Holds all that its result will need, so that a failure can always be told;
 * its deadline runs from here. NULL: no memory. */
sgc__transfer *sgc__transfer_new(sgc_endpoint *endpoint, sgc_plan *plan);
void sgc__transfer_free(sgc__transfer *transfer);

/* Moves the body out of a good answer into the result, and reads it where there
 * is a plan. */
void sgc__transfer_take(sgc__transfer *transfer, sgc__answer *answer, sgc__lessons *lessons);

/* Transfers by id. */
typedef struct sgc__roster {
    sgc__transfer **buckets;
    size_t n_buckets; /* a power of two, or 0 */
    size_t n;
} sgc__roster;

bool sgc__roster_add(sgc__roster *roster, sgc__transfer *transfer); /* false: no memory */
sgc__transfer *sgc__roster_find(const sgc__roster *roster, uint64_t id);
void sgc__roster_remove(sgc__roster *roster, sgc__transfer *transfer);

/* Transfers by deadline: the first is the one that ends first. */
typedef struct sgc__heap {
    sgc__transfer **items;
    size_t n;
    size_t room;
} sgc__heap;

bool sgc__heap_add(sgc__heap *heap, sgc__transfer *transfer); /* false: no memory */
void sgc__heap_remove(sgc__heap *heap, sgc__transfer *transfer);

#endif
