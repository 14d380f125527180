/*
 * hub.c - a scraper's hub: how it begins and how it ends.
 *
 * A process may fork while a scraper has connections. Parent and child would
 * then read each other's answers from shared sockets, so a child that finds the
 * hub of another process leaves it as it is, closed by nobody, and makes its own.
 */
#define _POSIX_C_SOURCE 200809L

#include "hub.h"

typedef sgc__hub hub;

static void list_free(sgc__link *list)
{
    while (!sgc__list_empty(list)) {
        sgc__transfer *transfer = sgc__first_of(list);
        sgc__list_remove(&transfer->queue);
        sgc__transfer_free(transfer);
    }
}

void sgc__hub_free(hub *hub)
{
    if (!hub)
        return;
    for (size_t i = 0; i < hub->handles.n; i++) {
        sgc__handle *handle = hub->handles.items[i];
        if (handle->transfer) {
            sgc__shard_remove(&handle->http);
            sgc__transfer_free(handle->transfer);
        }
    }
    list_free(&hub->incoming);
    list_free(&hub->ready);
    list_free(&hub->named);
    list_free(&hub->done);
    sgc__handles_free(&hub->handles);
    sgc__shards_free(&hub->shards);
    sgc__release(hub->deadlines.items);
    sgc__release(hub->roster.buckets);
    sgc__release(hub->lookups.gone);
    sgc__lessons_free(&hub->lessons);
    pthread_mutex_destroy(&hub->lock);
    sgc__release(hub);
}

hub *sgc__hub_new(const sgc_scraper_options *options)
{
    hub *made = sgc__alloc(1, sizeof *made);

    if (!made)
        return NULL;
    if (!sgc__lookups_init(&made->lookups, options->max_lookups) ||
        !sgc__shards_init(&made->shards, options->max_connections)) {
        sgc__release(made->lookups.gone);
        sgc__release(made);
        return NULL;
    }
    made->process = sgc_process();
    made->max_connections = options->max_connections;
    made->guard = options->guard;
    atomic_init(&made->driven, false);
    atomic_init(&made->woken, false);
    atomic_init(&made->pending, 0);
    pthread_mutex_init(&made->lock, NULL);
    sgc__list_init(&made->incoming);
    sgc__list_init(&made->cancelled);
    sgc__list_init(&made->ready);
    sgc__list_init(&made->named);
    sgc__list_init(&made->done);
    sgc__list_init(&made->young);
    sgc__handles_init(&made->handles, options->max_connections, &made->shards);
    return made;
}

static _Atomic(hub *) forsaken;

void sgc__hub_forsake(hub *hub)
{
    hub->next = atomic_load(&forsaken);
    while (!atomic_compare_exchange_weak(&forsaken, &hub->next, hub))
        ;
}
