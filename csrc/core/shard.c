/*
 * shard.c - connections in groups. With every scrape libcurl walks over all
 * connections of a multi handle (to find the one to use among those to its host,
 * and, when the scrape has ended, those to be closed), so that a fetch over one
 * of 1,000 would cost half as much again as over one of 64.
 */
/* curl_multi_socket_all is the one call that asks all and tells their sockets. */
#define CURL_DISABLE_DEPRECATION 1

#include "shard.h"

#include "pending.h"

enum { MILLISECOND = SGC__SECOND / 1000 };

/* --------------------------------------------------------------- callbacks */

static int on_wanted(CURL *easy, curl_socket_t fd, int what, void *ctx, void *unused)
{
    sgc__shard *shard = ctx;
    unsigned wanted = 0;

    (void)easy;
    (void)unused;
    if (what != CURL_POLL_REMOVE)
        wanted = (what & CURL_POLL_IN ? SGC__POLL_IN : 0u) | (what & CURL_POLL_OUT ? SGC__POLL_OUT : 0u);
    if (!sgc__poller_watch(&shard->all->poller, fd, shard->number, wanted))
        shard->lost = shard->all->lost = true;
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    sgc__shard *shard = ctx;

    (void)multi;
    shard->waits = timeout_ms > 0;
    shard->due = timeout_ms < 0 ? INT64_MAX : sgc__now() + (int64_t)timeout_ms * MILLISECOND;
    return 0;
}

/* ------------------------------------------------------------------ shards */

bool sgc__shards_init(sgc__shards *shards, size_t most)
{
    memset(shards, 0, sizeof *shards);
    shards->most = most;
    shards->n = (uint32_t)((most + SGC__SHARD_SIZE - 1) / SGC__SHARD_SIZE);
    shards->list = sgc__alloc(shards->n, sizeof *shards->list);
    if (shards->list && sgc__poller_init(&shards->poller))
        return true;
    sgc__release(shards->list);
    return false;
}

void sgc__shards_free(sgc__shards *shards)
{
    for (uint32_t i = 0; i < shards->n_used; i++)
        curl_multi_cleanup(shards->list[i].multi);
    sgc__poller_free(&shards->poller);
    sgc__release(shards->list);
}

/* libcurl 8.20 and later have a pool of threads that look names up: its cleanup
 * would wait for those that were given up, and 20 of them keep all others
 * waiting. How many there are is bounded by the scraper. Headers may be older. */
static void set_resolver(CURLM *multi)
{
    enum { RESOLVE_THREADS_MAX = 20, QUICK_EXIT = 21, MANY = 1000000 };

    curl_multi_setopt(multi, (CURLMoption)RESOLVE_THREADS_MAX, (long)MANY);
    curl_multi_setopt(multi, (CURLMoption)QUICK_EXIT, 1L);
}

static bool set_multi(sgc__shard *shard)
{
    long most = (long)shard->most;
    CURLM *multi = shard->multi;

    set_resolver(multi);
    return curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, most) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, most) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_wanted) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, shard) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_TIMERDATA, shard) == CURLM_OK;
}

/* False: no memory. */
static bool make_multi(sgc__shard *shard)
{
    shard->multi = curl_multi_init();
    if (shard->multi && set_multi(shard))
        return true;
    curl_multi_cleanup(shard->multi);
    shard->multi = NULL;
    return false;
}

/* The next shard begins its life; NULL: no memory, or there is no next. */
static sgc__shard *shard_init(sgc__shards *shards)
{
    size_t left = shards->most - (size_t)shards->n_used * SGC__SHARD_SIZE;
    sgc__shard *shard = &shards->list[shards->n_used];

    if (shards->n_used == shards->n)
        return NULL;
    *shard = (sgc__shard){.all = shards, .number = shards->n_used, .due = INT64_MAX};
    shard->most = left < SGC__SHARD_SIZE ? left : SGC__SHARD_SIZE;
    if (!make_multi(shard))
        return NULL;
    shards->n_used++;
    return shard;
}

void sgc__shard_renew(sgc__shard *shard)
{
    curl_multi_cleanup(shard->multi);
    for (int fd = -1; (fd = sgc__shard_next(shard, fd)) >= 0;)
        sgc__shard_closing(shard, fd);
    shard->lost = shard->waits = shard->hurried = false;
    shard->due = INT64_MAX;
    make_multi(shard); /* or later */
}

bool sgc__shard_busy(const sgc__shard *shard)
{
    return shard->active >= shard->most;
}

/* A kept connection may be closed for another one, but better is one with room. */
static bool is_full(const sgc__shard *shard)
{
    return sgc__shard_busy(shard) || shard->opened >= shard->most;
}

/* The first one from the last on that is not as `unfit` says; NULL. */
static sgc__shard *search(sgc__shards *shards, bool (*unfit)(const sgc__shard *))
{
    for (uint32_t i = 0; i < shards->n_used; i++) {
        uint32_t at = (shards->last + i) % shards->n_used;
        if (!unfit(&shards->list[at]))
            return &shards->list[at];
    }
    return NULL;
}

sgc__shard *sgc__shard_pick(sgc__shards *shards)
{
    sgc__shard *shard = search(shards, is_full);

    if (!shard)
        shard = shard_init(shards);
    if (!shard)
        shard = search(shards, sgc__shard_busy);
    if (shard)
        shards->last = shard->number;
    return shard;
}

void sgc__shard_remove(sgc__http *http)
{
    curl_multi_remove_handle(http->shard->multi, http->easy);
    http->shard->active--;
}

/* libcurl 7.88 closes a socket that never was connected without a word: that it
 * has, a new one of that number tells. */
bool sgc__shard_opened(sgc__shard *shard, int fd)
{
    sgc__shards *all = shard->all;
    bool expected;

    if ((size_t)fd < all->poller.n_watches && all->poller.watches[fd].told)
        sgc__shard_closing(&all->list[all->poller.watches[fd].owner], fd);
    expected = sgc__poller_expect(&all->poller, fd, shard->number);
    shard->opened += expected;
    return expected;
}

void sgc__shard_closing(sgc__shard *shard, int fd)
{
    shard->opened--;
    sgc__poller_forget(&shard->all->poller, fd);
}

int sgc__shard_next(const sgc__shard *shard, int fd)
{
    const sgc__poller *poller = &shard->all->poller;

    for (size_t next = (size_t)fd + 1; next < poller->n_watches; next++)
        if (poller->watches[next].told && poller->watches[next].owner == shard->number)
            return (int)next;
    return -1;
}

uint16_t *sgc__shard_port(sgc__shard *shard, int fd)
{
    return &shard->all->poller.watches[fd].port;
}

void sgc__shard_hurry(sgc__shard *shard)
{
    shard->hurried = true;
}

int64_t sgc__shard_due(const sgc__shard *shard)
{
    return shard->hurried ? 0 : shard->due;
}

int64_t sgc__shards_due(const sgc__shards *shards)
{
    int64_t due = INT64_MAX;

    for (uint32_t i = 0; i < shards->n_used; i++)
        due = sgc__shard_due(&shards->list[i]) < due ? sgc__shard_due(&shards->list[i]) : due;
    return due;
}

/* Where memory fails libcurl may not have told which sockets it wants watched, and
 * what 7.88 knows of one is then such that it divides by zero when it comes upon
 * it again, were it under another transfer: the shard is renewed. */
static void act(sgc__shard *shard, curl_socket_t fd, int events)
{
    if (shard->multi && !shard->lost &&
        curl_multi_socket_action(shard->multi, fd, events, &shard->running) != CURLM_OK)
        shard->lost = shard->all->lost = true;
}

/* An address whose share of the timeout is over is given up at once, but libcurl
 * 7.88 tries the next one only when it is asked again, and sets no time for that. */
void sgc__shard_tick(sgc__shard *shard)
{
    bool again = shard->waits || shard->hurried;

    shard->hurried = false;
    shard->due = INT64_MAX; /* unless it says otherwise */
    act(shard, CURL_SOCKET_TIMEOUT, 0);
    if (again && !shard->lost && curl_multi_socket_all(shard->multi, &shard->running) != CURLM_OK)
        shard->lost = shard->all->lost = true;
}

/* The first transfer that is under way begins alone. With it libcurl 8.23 begins to
 * watch its own wake-up socket, and where there is no memory for that it forgets
 * the transfer, and says so only where no other was begun after it. */
bool sgc__shard_add(sgc__http *http)
{
    sgc__shard *shard = http->shard;
    bool made = shard->multi || make_multi(shard);
    bool added = made && curl_multi_add_handle(shard->multi, http->easy) == CURLM_OK;
    bool first = shard->active == 0 || shard->running == 0;

    shard->active += added;
    if (added && first)
        sgc__shard_tick(shard);
    return added;
}

sgc__shard *sgc__shard_act(sgc__shards *shards, const sgc__ready *ready)
{
    sgc__shard *shard = &shards->list[ready->owner];
    int events = (ready->events & SGC__POLL_IN ? CURL_CSELECT_IN : 0) |
                 (ready->events & SGC__POLL_OUT ? CURL_CSELECT_OUT : 0);

    act(shard, ready->fd, events);
    return shard;
}

CURL *sgc__shard_done(sgc__shard *shard, CURLcode *code)
{
    int left;
    const CURLMsg *message = shard->multi ? curl_multi_info_read(shard->multi, &left) : NULL;

    if (!message)
        return NULL;
    *code = message->data.result;
    return message->easy_handle;
}
