/*
 * pending.c - transfers, a hash table of them by id and a binary heap by
 * deadline. Both keep their links in the transfers, so that only adding can
 * need memory.
 */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1

#include "pending.h"

#include <time.h>

/* -------------------------------------------------------------- transfers */

static int64_t clock_of(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * SGC__SECOND + now.tv_nsec;
}

/* As Python's time.monotonic() has it. */
int64_t sgc__now(void)
{
#ifdef __APPLE__
    return clock_of(CLOCK_UPTIME_RAW);
#else
    return clock_of(CLOCK_MONOTONIC);
#endif
}

sgc__transfer *sgc__transfer_new(sgc_endpoint *endpoint, sgc_plan *plan)
{
    sgc__transfer *transfer = sgc__alloc(1, sizeof *transfer);

    if (!transfer)
        return NULL;
    transfer->result = sgc__alloc(1, sizeof *transfer->result);
    if (!transfer->result) {
        sgc__release(transfer);
        return NULL;
    }
    sgc__list_init(&transfer->queue);
    sgc__list_init(&transfer->cancelled);
    transfer->endpoint = sgc_endpoint_retain(endpoint);
    transfer->plan = plan ? sgc_plan_retain(plan) : NULL;
    transfer->place = SIZE_MAX;
    transfer->submitted = sgc__now();
    transfer->deadline = transfer->submitted + (int64_t)(endpoint->timeout * SGC__SECOND);
    transfer->result->at = (double)transfer->submitted / SGC__SECOND;
    transfer->result->started = (double)clock_of(CLOCK_REALTIME) / SGC__SECOND;
    return transfer;
}

void sgc__transfer_free(sgc__transfer *transfer)
{
    if (!transfer)
        return;
    sgc_endpoint_free(transfer->endpoint);
    sgc_plan_free(transfer->plan);
    sgc_result_free(transfer->result);
    sgc__release(transfer);
}

/* ------------------------------------------------------------------ roster */

/* Ids count up, so their low bits spread them evenly. */
static sgc__transfer **bucket_of(const sgc__roster *roster, uint64_t id)
{
    return &roster->buckets[id & (roster->n_buckets - 1)];
}

/* Where there is no memory for more buckets the chains grow longer instead. */
static bool roster_grow(sgc__roster *roster)
{
    sgc__roster grown = {NULL, roster->n_buckets ? roster->n_buckets * 2 : 64, roster->n};

    grown.buckets = sgc__alloc(grown.n_buckets, sizeof *grown.buckets);
    if (!grown.buckets)
        return roster->n_buckets > 0;
    for (size_t i = 0; i < roster->n_buckets; i++) {
        while (roster->buckets[i]) {
            sgc__transfer *transfer = roster->buckets[i];
            roster->buckets[i] = transfer->next;
            transfer->next = *bucket_of(&grown, transfer->id);
            *bucket_of(&grown, transfer->id) = transfer;
        }
    }
    sgc__release(roster->buckets);
    *roster = grown;
    return true;
}

bool sgc__roster_add(sgc__roster *roster, sgc__transfer *transfer)
{
    if (roster->n >= roster->n_buckets && !roster_grow(roster))
        return false;
    transfer->next = *bucket_of(roster, transfer->id);
    *bucket_of(roster, transfer->id) = transfer;
    roster->n++;
    return true;
}

sgc__transfer *sgc__roster_find(const sgc__roster *roster, uint64_t id)
{
    sgc__transfer *transfer = roster->n ? *bucket_of(roster, id) : NULL;

    while (transfer && transfer->id != id)
        transfer = transfer->next;
    return transfer;
}

void sgc__roster_remove(sgc__roster *roster, sgc__transfer *transfer)
{
    sgc__transfer **at = bucket_of(roster, transfer->id);

    while (*at != transfer)
        at = &(*at)->next;
    *at = transfer->next;
    roster->n--;
}

/* -------------------------------------------------------------------- heap */

static void heap_put(sgc__heap *heap, size_t place, sgc__transfer *transfer)
{
    heap->items[place] = transfer;
    transfer->place = place;
}

static void heap_rise(sgc__heap *heap, size_t place, sgc__transfer *transfer)
{
    while (place > 0 && heap->items[(place - 1) / 2]->deadline > transfer->deadline) {
        heap_put(heap, place, heap->items[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_put(heap, place, transfer);
}

static void heap_sink(sgc__heap *heap, size_t place, sgc__transfer *transfer)
{
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < heap->n && heap->items[child + 1]->deadline < heap->items[child]->deadline)
            child++;
        if (child >= heap->n || heap->items[child]->deadline >= transfer->deadline)
            break;
        heap_put(heap, place, heap->items[child]);
        place = child;
    }
    heap_put(heap, place, transfer);
}

bool sgc__heap_add(sgc__heap *heap, sgc__transfer *transfer)
{
    if (heap->n == heap->room) {
        size_t room = sgc__grow(heap->room, heap->n + 64);
        sgc__transfer **items = sgc__resize(heap->items, room, sizeof *items);
        if (!items)
            return false;
        heap->items = items;
        heap->room = room;
    }
    heap_rise(heap, heap->n++, transfer);
    return true;
}

void sgc__heap_remove(sgc__heap *heap, sgc__transfer *transfer)
{
    size_t place = transfer->place;
    sgc__transfer *last;

    if (place == SIZE_MAX)
        return;
    transfer->place = SIZE_MAX;
    last = heap->items[--heap->n];
    if (last == transfer)
        return;
    heap_rise(heap, place, last);
    heap_sink(heap, last->place, last);
}
