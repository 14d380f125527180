/*
 * handles.c - which easy handle serves which scrape. Setting one up costs ten
 * times what a scrape over it costs, so a handle stays with its endpoint while
 * there are enough of them.
 */
#include "handles.h"

#define LOOKUP_PATIENCE (INT64_C(15) * SGC__SECOND)

void sgc__handles_init(sgc__handles *handles, size_t most, sgc__shards *shards)
{
    memset(handles, 0, sizeof *handles);
    handles->most = most;
    handles->shards = shards;
    sgc__list_init(&handles->idle);
}

void sgc__handles_free(sgc__handles *handles)
{
    for (size_t i = 0; i < handles->n; i++) {
        sgc__http_free(&handles->items[i]->http);
        sgc__release(handles->items[i]);
    }
    sgc__release(handles->items);
    sgc__handles_init(handles, handles->most, handles->shards);
}

/* The handle of that number, if it is set up for `endpoint`; NULL. */
static sgc__handle *handle_for(const sgc__handles *handles, unsigned number, const sgc_endpoint *endpoint)
{
    sgc__handle *handle = number < handles->n ? handles->items[number] : NULL;

    return handle && handle->http.endpoint == endpoint ? handle : NULL;
}

/* The one last set up for `endpoint`, if it still is; NULL. */
static sgc__handle *find(const sgc__handles *handles, const sgc_endpoint *endpoint)
{
    return handle_for(handles, atomic_load_explicit(&endpoint->slot, memory_order_relaxed), endpoint);
}

/* One of its siblings that is not in use, where several scrapes of an endpoint
 * run at once; NULL. The chain may have been cut or bent by other endpoints. */
static sgc__handle *find_idle(const sgc__handles *handles, const sgc_endpoint *endpoint)
{
    enum { MOST_HOPS = 32 };
    sgc__handle *handle = find(handles, endpoint);

    for (int hops = 0; handle && handle->transfer; hops++)
        handle = hops < MOST_HOPS ? handle_for(handles, handle->sibling, endpoint) : NULL;
    return handle;
}

static sgc__handle *add(sgc__handles *handles)
{
    sgc__handle *handle;

    if (handles->n == handles->room) {
        size_t room = sgc__grow(handles->room, handles->n + 16);
        sgc__handle **items = sgc__resize(handles->items, room, sizeof *items);
        if (!items)
            return NULL;
        handles->items = items;
        handles->room = room;
    }
    handle = sgc__alloc(1, sizeof *handle);
    if (!handle)
        return NULL;
    sgc__list_init(&handle->idle);
    handle->http.fd = -1;
    handle->number = (unsigned)handles->n;
    handles->items[handles->n++] = handle;
    return handle;
}

/* The longest idle one, if nobody but it knows its endpoint any more, or if
 * there must be no more handles; else a new one. */
static sgc__handle *other(sgc__handles *handles)
{
    sgc__handle *oldest =
        sgc__list_empty(&handles->idle) ? NULL : SGC__OF(handles->idle.next, sgc__handle, idle);
    sgc__handle *added = NULL;

    if (oldest && (!oldest->http.endpoint || atomic_load(&oldest->http.endpoint->refs) == 1))
        return oldest;
    if (handles->n < handles->most)
        added = add(handles);
    return added ? added : oldest;
}

/* A handle stays with the shard that has its connection, unless that is busy. */
static bool place(sgc__handles *handles, sgc__handle *handle, bool known)
{
    sgc__shard *shard = handle->http.shard;

    if (known && !sgc__shard_busy(shard))
        return true;
    shard = sgc__shard_pick(handles->shards);
    if (shard)
        sgc__http_place(&handle->http, shard);
    return shard != NULL;
}

sgc__handle *sgc__handles_take(sgc__handles *handles, sgc_endpoint *endpoint)
{
    sgc__handle *handle = find_idle(handles, endpoint);
    bool known = handle != NULL;

    if (!known)
        handle = other(handles);
    if (!handle)
        return NULL;
    sgc__list_remove(&handle->idle);
    if (!known) {
        handle->warm_until = 0;
        handle->sibling = atomic_load_explicit(&endpoint->slot, memory_order_relaxed);
    }
    if (!place(handles, handle, known) || sgc__http_prepare(&handle->http, endpoint) != CURLE_OK) {
        sgc__list_push(&handles->idle, &handle->idle);
        return NULL;
    }
    if (!known)
        atomic_store_explicit(&endpoint->slot, handle->number, memory_order_relaxed);
    return handle;
}

void sgc__handles_cool(sgc__handles *handles)
{
    for (size_t i = 0; i < handles->n; i++)
        if (handles->items[i]->http.shard && handles->items[i]->http.shard->lost)
            handles->items[i]->warm_until = 0;
}

void sgc__handles_give(sgc__handles *handles, sgc__handle *handle)
{
    handle->transfer = NULL;
    sgc__list_push(&handles->idle, &handle->idle);
}

bool sgc__handles_warm(const sgc__handles *handles, const sgc_endpoint *endpoint, int64_t now)
{
    const sgc__handle *handle = find(handles, endpoint);

    return handle && now < handle->warm_until;
}

/* ----------------------------------------------------------------- look-ups */

bool sgc__lookups_init(sgc__lookups *lookups, size_t most)
{
    memset(lookups, 0, sizeof *lookups);
    lookups->most = most;
    lookups->gone = sgc__alloc(most, sizeof *lookups->gone);
    return lookups->gone != NULL;
}

bool sgc__lookups_free_one(sgc__lookups *lookups, int64_t now)
{
    while (lookups->n_gone && lookups->gone[lookups->first] <= now) {
        lookups->first = (lookups->first + 1) % lookups->most;
        lookups->n_gone--;
    }
    return lookups->active + lookups->n_gone < lookups->most;
}

void sgc__lookups_give_up(sgc__lookups *lookups, int64_t now)
{
    if (lookups->n_gone < lookups->most)
        lookups->gone[(lookups->first + lookups->n_gone++) % lookups->most] = now + LOOKUP_PATIENCE;
}

int64_t sgc__lookups_next(const sgc__lookups *lookups)
{
    return lookups->n_gone ? lookups->gone[lookups->first] : INT64_MAX;
}
