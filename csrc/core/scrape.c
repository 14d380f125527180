/*
 * scrape.c - the one loop that fetches. Scrapes are queued from any thread; one
 * thread at a time drives them, and what it alone touches needs no lock.
 */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE 1

#include "hub.h"
#include "pool.h"

enum { MILLISECOND = SGC__SECOND / 1000, MOST = 1000000 };

/* How long finished scrapes are read before transfers and deadlines get a turn. */
enum { READ_SLICE = 50 * MILLISECOND };

/* A transfer is young for so long, and so many may be at once. Answers of a fleet
 * that is asked all at once pile up in the kernel, and libcurl's buffers, one for
 * each that is under way, push each other out of the caches: in waves a scrape
 * costs a fifth less. A thread reads fewer pages in that time, so that waves hold
 * up nobody; and who is slow to answer grows old and is in nobody's way. */
enum { YOUTH = 1 * MILLISECOND, MOST_YOUNG = 32 };

typedef sgc__hub hub;

struct sgc_scraper {
    sgc_scraper_options options;
    _Atomic(hub *) hub;
};

static double seconds_between(int64_t from, int64_t to)
{
    return (double)(to - from) / SGC__SECOND;
}

/* ---------------------------------------------------------------- one hub */

/* This process's hub, or NULL where it has none yet. */
static hub *hub_known(sgc_scraper *scraper)
{
    hub *known = atomic_load(&scraper->hub);

    return known->process == sgc_process() ? known : NULL;
}

/* ... which is then made. NULL: no memory. Of threads that do this at once in a
 * child one wins, and the others use its hub. */
static hub *hub_of(sgc_scraper *scraper)
{
    hub *known = atomic_load(&scraper->hub);
    hub *made;

    if (known->process == sgc_process())
        return known;
    made = sgc__hub_new(&scraper->options);
    if (!made)
        return NULL;
    if (atomic_compare_exchange_strong(&scraper->hub, &known, made)) {
        sgc__hub_forsake(known);
        return made;
    }
    sgc__hub_free(made);
    return known;
}

/* ----------------------------------------------------------------- scraper */

void sgc_scraper_options_init(sgc_scraper_options *options)
{
    memset(options, 0, sizeof *options);
    options->max_connections = 1000;
    options->max_lookups = 64;
}

sgc_status sgc_scraper_new(const sgc_scraper_options *options, sgc_scraper **scraper, sgc_error *err)
{
    sgc_scraper *made;
    hub *hub;

    *scraper = NULL;
    if (options->max_connections - 1 >= MOST || options->max_lookups - 1 >= MOST)
        return sgc__fail_argument(err, "expected 1 to 1000000 connections and look-ups", SGC__STR(""));
    made = sgc__http_init() ? sgc__alloc(1, sizeof *made) : NULL;
    hub = made ? sgc__hub_new(options) : NULL;
    if (!hub) {
        sgc__release(made);
        return sgc__fail_memory(err);
    }
    sgc__pool_open();
    atomic_init(&made->hub, hub);
    made->options = *options;
    if (options->guard)
        sgc_guard_retain(options->guard);
    *scraper = made;
    return SGC_OK;
}

/* A transfer for each endpoint into `list`. False: no memory for all of them. */
static bool make_all(sgc__link *list, sgc_endpoint *const *endpoints, size_t n, sgc_plan *plan)
{
    for (size_t i = 0; i < n; i++) {
        sgc__transfer *transfer = sgc__transfer_new(endpoints[i], plan);
        if (!transfer)
            return false;
        sgc__list_push(list, &transfer->queue);
    }
    return true;
}

/* Gives all in `list` their ids, or none. */
static bool enrol_locked(hub *hub, const sgc__link *list)
{
    for (sgc__link *link = list->next; link != list; link = link->next) {
        sgc__transfer *transfer = SGC__OF(link, sgc__transfer, queue);
        transfer->id = transfer->result->id = hub->last_id + 1;
        if (!sgc__roster_add(&hub->roster, transfer)) {
            while ((link = link->prev) != list) {
                sgc__roster_remove(&hub->roster, SGC__OF(link, sgc__transfer, queue));
                hub->last_id--;
            }
            return false;
        }
        hub->last_id++;
    }
    return true;
}

/* Queues all in `list`, whose ids then begin with *first, or none. */
static bool queue_all(hub *hub, sgc__link *list, size_t n, uint64_t *first)
{
    bool queued, nudge = false;

    pthread_mutex_lock(&hub->lock);
    queued = enrol_locked(hub, list);
    if (queued) {
        *first = hub->last_id + 1 - n;
        sgc__list_move(&hub->incoming, list);
        atomic_fetch_add(&hub->pending, n);
        nudge = atomic_load(&hub->driven) && !hub->nudged;
        hub->nudged = true;
    }
    pthread_mutex_unlock(&hub->lock);
    if (nudge)
        sgc__poller_wake(&hub->shards.poller);
    return queued;
}

sgc_status sgc_scraper_submit_all(sgc_scraper *scraper, sgc_endpoint *const *endpoints, size_t n,
                                  sgc_plan *plan, uint64_t *first, sgc_error *err)
{
    hub *hub = hub_of(scraper);
    sgc__link list;

    *first = 0;
    sgc__list_init(&list);
    if (hub && make_all(&list, endpoints, n, plan) && queue_all(hub, &list, n, first))
        return SGC_OK;
    while (!sgc__list_empty(&list)) {
        sgc__transfer *transfer = sgc__first_of(&list);
        sgc__list_remove(&transfer->queue);
        sgc__transfer_free(transfer);
    }
    return sgc__fail_memory(err);
}

sgc_status sgc_scraper_submit(sgc_scraper *scraper, sgc_endpoint *endpoint, sgc_plan *plan, uint64_t *id,
                              sgc_error *err)
{
    return sgc_scraper_submit_all(scraper, &endpoint, 1, plan, id, err);
}

static void cancel_locked(hub *hub, sgc__transfer *transfer)
{
    sgc__list_remove(&transfer->cancelled);
    sgc__list_push(&hub->cancelled, &transfer->cancelled);
}

void sgc_scraper_cancel(sgc_scraper *scraper, uint64_t id)
{
    hub *hub = hub_known(scraper);
    sgc__transfer *transfer;

    if (!hub)
        return;
    pthread_mutex_lock(&hub->lock);
    if (id == 0) {
        for (size_t i = 0; i < hub->roster.n_buckets; i++)
            for (transfer = hub->roster.buckets[i]; transfer; transfer = transfer->next)
                cancel_locked(hub, transfer);
    } else {
        transfer = sgc__roster_find(&hub->roster, id);
        if (transfer)
            cancel_locked(hub, transfer);
    }
    pthread_mutex_unlock(&hub->lock);
    if (atomic_load(&hub->driven))
        sgc__poller_wake(&hub->shards.poller);
}

void sgc_scraper_wake(sgc_scraper *scraper)
{
    hub *hub = hub_known(scraper);

    if (!hub)
        return;
    atomic_store(&hub->woken, true);
    if (atomic_load(&hub->driven))
        sgc__poller_wake(&hub->shards.poller);
}

size_t sgc_scraper_pending(sgc_scraper *scraper)
{
    hub *hub = hub_known(scraper);

    return hub ? atomic_load(&hub->pending) : 0;
}

/* ------------------------------------------------------------ ends of scrapes */

/* Over: only its result is left of it. */
static void conclude(hub *hub, sgc__transfer *transfer)
{
    sgc__heap_remove(&hub->deadlines, transfer);
    pthread_mutex_lock(&hub->lock);
    sgc__list_remove(&transfer->queue); /* cancelled at once, it is still among the incoming */
    sgc__roster_remove(&hub->roster, transfer);
    sgc__list_remove(&transfer->cancelled);
    pthread_mutex_unlock(&hub->lock);
    transfer->result->timings.done = seconds_between(transfer->submitted, sgc__now());
    sgc__list_push(&hub->done, &transfer->queue);
}

/* The handle's part of a result. `whole`: libcurl came to the end by itself. */
static void note(sgc__transfer *transfer, const sgc__http *http, bool whole)
{
    sgc_result *result = transfer->result;

    sgc__http_timings(http, seconds_between(transfer->submitted, transfer->began), &result->timings);
    if (whole)
        result->timings.received = seconds_between(transfer->submitted, sgc__now());
    result->status = http->answer.status;
    result->framing = http->answer.framing;
    result->format = http->answer.format;
    result->wire_bytes = http->answer.wire_bytes;
    result->reused = http->asked && !http->opened;
    result->retried |= http->requests > 1;
}

/* What is known of the endpoint's connection and address for the next time. */
static void remember(hub *hub, sgc__handle *handle, bool whole, int64_t now)
{
    enum { ADDRESS_KEPT = 55, CONNECTION_KEPT = 4 }; /* seconds; libcurl's 60, a server's 5 */
    sgc__transfer *transfer = handle->transfer;
    int64_t address = transfer->began + INT64_C(1) * ADDRESS_KEPT * SGC__SECOND;
    int64_t connection = now + INT64_C(1) * CONNECTION_KEPT * SGC__SECOND;

    if (handle->http.looking)
        sgc__lookups_give_up(&hub->lookups, now);
    else if (transfer->named && handle->http.opened)
        handle->warm_until = address;
    if (whole && !handle->http.answer.closing && connection > handle->warm_until)
        handle->warm_until = connection;
}

/* It is young no longer, if it was. */
static void outgrow(hub *hub, sgc__transfer *transfer)
{
    hub->n_young -= !sgc__list_empty(&transfer->queue);
    sgc__list_remove(&transfer->queue);
}

static void outgrow_all(hub *hub, int64_t now)
{
    while (hub->n_young && sgc__first_of(&hub->young)->began + YOUTH <= now)
        outgrow(hub, sgc__first_of(&hub->young));
}

/* Takes a transfer off libcurl; its failure, or its whole answer, is there. */
static void finish(hub *hub, sgc__transfer *transfer, bool whole)
{
    sgc__handle *handle = transfer->handle;

    note(transfer, &handle->http, whole);
    remember(hub, handle, whole, sgc__now());
    if (transfer->result->failure.reason == SGC_REASON_NONE)
        sgc__transfer_take(transfer, &handle->http.answer, &hub->lessons);
    sgc__http_release(&handle->http, whole);
    sgc__handles_give(&hub->handles, handle);
    transfer->handle = NULL;
    hub->active--;
    outgrow(hub, transfer);
    conclude(hub, transfer);
}

/* Ends a transfer in whatever state, with the failure that `reason` says. */
static void end_early(hub *hub, sgc__transfer *transfer, sgc_reason reason, const char *what)
{
    sgc__failure_set(&transfer->result->failure, reason, "%s", what);
    if (transfer->handle) {
        sgc__shard_remove(&transfer->handle->http);
        finish(hub, transfer, false);
    } else {
        conclude(hub, transfer);
    }
}

/* ------------------------------------------------------------ starts of scrapes */

/* libcurl gives each address of a host its share of this. It is a little more
 * than what is left: our own deadline comes first, while the state that tells
 * how far the scrape came is still there. */
static long remaining_ms(const sgc__transfer *transfer, int64_t now)
{
    enum { LATER = 20 };
    int64_t left = transfer->deadline - now;

    return LATER + (left > 0 ? (long)(left / MILLISECOND) : 0);
}

static bool request(sgc__transfer *transfer, bool fresh)
{
    sgc__http *http = &transfer->handle->http;

    transfer->began = sgc__now();
    return sgc__http_begin(http, &transfer->result->failure, remaining_ms(transfer, transfer->began),
                           fresh) == CURLE_OK &&
           sgc__shard_add(http);
}

static void start(hub *hub, sgc__transfer *transfer)
{
    sgc__handle *handle = sgc__handles_take(&hub->handles, transfer->endpoint);

    sgc__list_remove(&transfer->queue);
    if (!handle) {
        sgc__failure_memory(&transfer->result->failure);
        conclude(hub, transfer);
        return;
    }
    handle->transfer = transfer;
    handle->http.guard = hub->guard;
    handle->http.lookups = &hub->lookups.active;
    handle->http.looking = transfer->named;
    hub->lookups.active += transfer->named;
    transfer->handle = handle;
    hub->active++;
    sgc__list_push(&hub->young, &transfer->queue);
    hub->n_young++;
    if (!request(transfer, false)) {
        sgc__failure_memory(&transfer->result->failure);
        finish(hub, transfer, false);
    }
}

/* Starts what may start, the oldest first. */
static void start_all(hub *hub, int64_t now)
{
    outgrow_all(hub, now);
    while (hub->active < hub->max_connections && hub->n_young < MOST_YOUNG) {
        sgc__transfer *next = sgc__first_of(&hub->ready);
        sgc__transfer *named = sgc__first_of(&hub->named);
        if (named && (!next || named->id < next->id) && sgc__lookups_free_one(&hub->lookups, now))
            next = named;
        if (!next)
            break;
        start(hub, next);
    }
}

/* A transfer that was just submitted: refused, or queued. */
static void admit(hub *hub, sgc__transfer *transfer, int64_t now)
{
    const sgc_endpoint *endpoint = transfer->endpoint;
    sgc_str host = {endpoint->host, strlen(endpoint->host)};
    sgc_reason reason = hub->guard ? sgc_guard_check_host(hub->guard, host, endpoint->port) : SGC_REASON_NONE;

    if (!sgc__heap_add(&hub->deadlines, transfer)) {
        sgc__failure_memory(&transfer->result->failure);
        conclude(hub, transfer);
    } else if (reason != SGC_REASON_NONE) {
        end_early(hub, transfer, reason,
                  reason == SGC_REASON_HOST_NOT_ALLOWED
                      ? "host is not allowed; expected one that the guard lists"
                  : reason == SGC_REASON_PORT_NOT_ALLOWED
                      ? "port is not allowed; expected one that the guard lists"
                      : "address is not allowed; expected one that the guard lists");
    } else {
        transfer->named = !endpoint->numeric && !sgc__handles_warm(&hub->handles, endpoint, now);
        sgc__list_push(transfer->named ? &hub->named : &hub->ready, &transfer->queue);
    }
}

/* ------------------------------------------------------------------ the loop */

/* What other threads asked for since the last look. */
static void admit_all(hub *hub, int64_t now)
{
    sgc__link incoming;
    sgc__transfer *transfer;

    sgc__list_init(&incoming);
    pthread_mutex_lock(&hub->lock);
    sgc__list_move(&incoming, &hub->incoming);
    hub->nudged = false;
    pthread_mutex_unlock(&hub->lock);
    while ((transfer = sgc__first_of(&incoming))) {
        sgc__list_remove(&transfer->queue);
        admit(hub, transfer, now);
    }
}

static sgc__transfer *next_cancelled(hub *hub)
{
    sgc__transfer *transfer = NULL;

    pthread_mutex_lock(&hub->lock);
    if (!sgc__list_empty(&hub->cancelled)) {
        transfer = SGC__OF(hub->cancelled.next, sgc__transfer, cancelled);
        sgc__list_remove(&transfer->cancelled);
    }
    pthread_mutex_unlock(&hub->lock);
    return transfer;
}

static void cancel_all(hub *hub)
{
    sgc__transfer *transfer;

    while ((transfer = next_cancelled(hub)))
        end_early(hub, transfer, SGC_REASON_CANCELLED, "cancelled before its end");
}

/* libcurl is done with a handle. */
static void settle(hub *hub, sgc__handle *handle, CURLcode code)
{
    sgc__transfer *transfer = handle->transfer;

    sgc__shard_remove(&handle->http);
    if (code != CURLE_OPERATION_TIMEDOUT && handle->http.looking) {
        handle->http.looking = false; /* the look-up ended, if badly */
        hub->lookups.active--;
    }
    if (!sgc__http_end(&handle->http, code)) {
        transfer->result->retried |= !handle->http.showing;
        sgc__answer_free(&handle->http.answer);
        if (request(transfer, true))
            return;
        sgc__failure_memory(&transfer->result->failure);
    }
    finish(hub, transfer, code == CURLE_OK);
}

/* What a shard has finished. */
static void settle_all(hub *hub, sgc__shard *shard)
{
    CURLcode code;
    CURL *easy;

    while ((easy = sgc__shard_done(shard, &code))) {
        sgc__http *http = NULL;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &http);
        settle(hub, SGC__OF(http, sgc__handle, http), code);
    }
}

/* What libcurl wants to do by now: requests that were just begun, most of all. Some
 * that began before may be over already. */
static void tick_all(hub *hub, int64_t now)
{
    for (uint32_t i = 0; i < hub->shards.n_used; i++) {
        sgc__shard *shard = &hub->shards.list[i];
        if (sgc__shard_due(shard) <= now)
            sgc__shard_tick(shard);
        settle_all(hub, shard);
    }
}

/* Ends what may wait for a socket that nobody watches. */
static void end_lost(hub *hub)
{
    for (size_t i = 0; i < hub->handles.n; i++) {
        sgc__handle *handle = hub->handles.items[i];
        if (handle->transfer && handle->http.shard->lost) {
            sgc__failure_memory(&handle->transfer->result->failure);
            end_early(hub, handle->transfer, SGC_REASON_OUT_OF_MEMORY, "");
        }
    }
    sgc__handles_cool(&hub->handles);
    for (uint32_t i = 0; i < hub->shards.n_used; i++)
        if (hub->shards.list[i].lost)
            sgc__shard_renew(&hub->shards.list[i]);
    hub->shards.lost = false;
}

/* Moves bytes of the sockets that are ready. A page is read as soon as it is
 * whole, while the caches have it. */
static void act_all(hub *hub, int timeout_ms)
{
    enum { MOST_READY = 128 };
    sgc__ready ready[MOST_READY];
    size_t n = sgc__poller_wait(&hub->shards.poller, timeout_ms, ready, MOST_READY);
    int64_t until = sgc__now() + READ_SLICE;

    for (size_t i = 0; i < n && (i == 0 || sgc__now() < until); i++)
        settle_all(hub, sgc__shard_act(&hub->shards, &ready[i]));
}

static void expire_all(hub *hub, int64_t now)
{
    while (hub->deadlines.n && hub->deadlines.items[0]->deadline <= now) {
        sgc__transfer *transfer = hub->deadlines.items[0];
        if (transfer->handle)
            sgc__http_expire(&transfer->handle->http);
        end_early(hub, transfer, transfer->named ? SGC_REASON_TIMEOUT_RESOLVE : SGC_REASON_TIMEOUT_CONNECT,
                  transfer->named ? "waited for other look-ups; the timeout is over"
                                  : "waited for other scrapes; the timeout is over");
    }
}

/* When one that waits may start though none ends; INT64_MAX. */
static int64_t next_start(const hub *hub)
{
    bool named = !sgc__list_empty(&hub->named);

    if (hub->active >= hub->max_connections || (!named && sgc__list_empty(&hub->ready)))
        return INT64_MAX;
    if (hub->n_young >= MOST_YOUNG)
        return sgc__first_of(&hub->young)->began + YOUTH;
    return named ? sgc__lookups_next(&hub->lookups) : INT64_MAX;
}

/* Milliseconds to sleep at most, rounded up so as not to wake too early. */
static int sleep_ms(const hub *hub, int64_t now, int64_t until)
{
    if (hub->deadlines.n && hub->deadlines.items[0]->deadline < until)
        until = hub->deadlines.items[0]->deadline;
    if (sgc__shards_due(&hub->shards) < until)
        until = sgc__shards_due(&hub->shards);
    if (next_start(hub) < until)
        until = next_start(hub);
    if (until <= now)
        return 0;
    return until - now < INT64_C(3600) * SGC__SECOND ? (int)((until - now + MILLISECOND - 1) / MILLISECOND)
                                                     : 3600000;
}

static bool is_over(hub *hub, int64_t now, int64_t until)
{
    return !sgc__list_empty(&hub->done) || atomic_load(&hub->woken) || now >= until ||
           (until != INT64_MAX && atomic_load(&hub->pending) == 0);
}

static void drive(hub *hub, int64_t until)
{
    int64_t now = sgc__now();
    bool over = false;

    while (!over) {
        admit_all(hub, now);
        cancel_all(hub);
        expire_all(hub, now);
        start_all(hub, now);
        now = sgc__now();
        tick_all(hub, now);
        if (hub->shards.lost)
            end_lost(hub);
        act_all(hub, is_over(hub, now, until) ? 0 : sleep_ms(hub, now, until));
        now = sgc__now();
        expire_all(hub, now);
        over = is_over(hub, now, until) || hub->shards.poller.interrupted;
    }
}

static size_t return_results(hub *hub, sgc_result **results, size_t cap)
{
    size_t n = 0;

    while (n < cap && !sgc__list_empty(&hub->done)) {
        sgc__transfer *transfer = sgc__first_of(&hub->done);
        sgc__list_remove(&transfer->queue);
        results[n++] = transfer->result;
        transfer->result = NULL;
        sgc__transfer_free(transfer);
    }
    atomic_fetch_sub(&hub->pending, n);
    return n;
}

/* --------------------------------------------------------------------- wait */

static sgc_status fail_busy(sgc_error *err)
{
    if (err) {
        memset(err, 0, sizeof *err);
        err->code = SGC_BUSY;
        err->reason = sgc_status_text(SGC_BUSY);
    }
    return SGC_BUSY;
}

sgc_status sgc_scraper_wait(sgc_scraper *scraper, int timeout_ms, sgc_result **results, size_t cap, size_t *n,
                            sgc_error *err)
{
    hub *hub = hub_of(scraper);
    sgc__pipe_mask mask;

    *n = 0;
    if (!hub)
        return sgc__fail_memory(err);
    if (atomic_exchange(&hub->driven, true))
        return fail_busy(err);
    sgc__pipe_block(&mask);
    drive(hub, timeout_ms < 0 ? INT64_MAX : sgc__now() + (int64_t)timeout_ms * MILLISECOND);
    *n = return_results(hub, results, cap);
    atomic_store(&hub->woken, false);
    sgc__pipe_unblock(&mask);
    atomic_store(&hub->driven, false);
    return SGC_OK;
}

void sgc_scraper_free(sgc_scraper *scraper)
{
    sgc__pipe_mask mask;
    hub *hub;

    if (!scraper)
        return;
    hub = hub_known(scraper);
    if (!hub)
        sgc__hub_forsake(atomic_load(&scraper->hub));
    sgc__pipe_block(&mask);
    sgc__hub_free(hub);
    sgc__pipe_unblock(&mask);
    sgc__pool_close();
    sgc_guard_free(scraper->options.guard);
    sgc__release(scraper);
}
