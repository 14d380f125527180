/*
 * poller.c - which sockets are ready.
 *
 * A kept connection is asked for nothing between two scrapes. Its socket stays
 * registered with epoll all the same, which spares two calls a scrape: a server
 * seldom says anything then, and when it does, the socket is taken out.
 */
#define _DEFAULT_SOURCE 1
#define _DARWIN_C_SOURCE 1

#include "poller.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#if defined(__linux__) && !defined(SGC_PORTABLE)
#define USE_EPOLL 1
#include <sys/epoll.h>
#endif

/* ------------------------------------------------------------------- bell */

static bool flags_set(int fd)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

static bool bell_init(sgc__poller *poller)
{
    poller->bell[0] = poller->bell[1] = -1;
    return pipe(poller->bell) == 0 && flags_set(poller->bell[0]) && flags_set(poller->bell[1]);
}

static void bell_clear(sgc__poller *poller)
{
    char bytes[64];

    while (read(poller->bell[0], bytes, sizeof bytes) == (ssize_t)sizeof bytes)
        ;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* A full pipe wakes as well as one more byte. */
void sgc__poller_wake(sgc__poller *poller)
{
    while (write(poller->bell[1], "", 1) < 0 && errno == EINTR)
        ;
}

#if USE_EPOLL

/* ------------------------------------------------------------------- epoll */

static bool system_init(sgc__poller *poller)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = poller->bell[0]};

    poller->epoll = epoll_create1(EPOLL_CLOEXEC);
    return poller->epoll >= 0 && epoll_ctl(poller->epoll, EPOLL_CTL_ADD, poller->bell[0], &event) == 0;
}

static void system_free(sgc__poller *poller)
{
    close_if_open(poller->epoll);
}

static bool control(sgc__poller *poller, int call, int fd, unsigned wanted)
{
    struct epoll_event event = {.data.fd = fd};

    event.events = (wanted & SGC__POLL_IN ? EPOLLIN : 0u) | (wanted & SGC__POLL_OUT ? EPOLLOUT : 0u);
    return epoll_ctl(poller->epoll, call, fd, &event) == 0;
}

/* Nobody hears of an end that is not told, so that what is known may be wrong. */
static bool system_tell(sgc__poller *poller, int fd, sgc__watch *watch, unsigned wanted)
{
    int call = watch->known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    watch->known = (uint8_t)wanted;
    if (!wanted) {
        control(poller, EPOLL_CTL_DEL, fd, 0); /* fails where it is gone already */
        return true;
    }
    if (control(poller, call, fd, wanted))
        return true;
    if (errno == ENOENT || errno == EEXIST)
        return control(poller, call == EPOLL_CTL_ADD ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, wanted);
    watch->known = 0;
    return false;
}

static bool may_stay(const sgc__watch *watch)
{
    return watch->told && watch->known == SGC__POLL_IN;
}

static unsigned events_of(uint32_t events, unsigned wanted)
{
    if (events & (EPOLLERR | EPOLLHUP))
        return wanted;
    return (events & EPOLLIN ? SGC__POLL_IN : 0u) | (events & EPOLLOUT ? SGC__POLL_OUT : 0u);
}

size_t sgc__poller_wait(sgc__poller *poller, int timeout_ms, sgc__ready *ready, size_t most)
{
    enum { MOST_EVENTS = 128 };
    struct epoll_event events[MOST_EVENTS];
    int n = epoll_wait(poller->epoll, events, (int)(most < MOST_EVENTS ? most : MOST_EVENTS), timeout_ms);
    size_t n_ready = 0;

    poller->interrupted = n < 0 && errno == EINTR;
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        sgc__watch *watch = &poller->watches[fd];
        if (fd == poller->bell[0])
            bell_clear(poller);
        else if (watch->wanted)
            ready[n_ready++] = (sgc__ready){fd, watch->owner, events_of(events[i].events, watch->wanted)};
        else
            system_tell(poller, fd, watch, 0);
    }
    return n_ready;
}

#else

/* -------------------------------------------------------------------- poll */

static bool list_add(sgc__poller *poller, int fd, short events)
{
    if (poller->n_list == poller->list_room) {
        size_t room = sgc__grow(poller->list_room, 64);
        struct pollfd *list = sgc__resize(poller->list, room, sizeof *list);
        if (!list)
            return false;
        poller->list = list;
        poller->list_room = room;
    }
    poller->list[poller->n_list++] = (struct pollfd){.fd = fd, .events = events};
    return true;
}

static bool system_init(sgc__poller *poller)
{
    return list_add(poller, poller->bell[0], POLLIN);
}

static void system_free(sgc__poller *poller)
{
    sgc__release(poller->list);
}

static bool system_tell(sgc__poller *poller, int fd, sgc__watch *watch, unsigned wanted)
{
    short events = (short)((wanted & SGC__POLL_IN ? POLLIN : 0) | (wanted & SGC__POLL_OUT ? POLLOUT : 0));

    if (!watch->known) {
        watch->place = (uint32_t)poller->n_list;
        if (!list_add(poller, fd, events))
            return false;
    } else if (wanted) {
        poller->list[watch->place].events = events;
    } else {
        struct pollfd *last = &poller->list[--poller->n_list];
        poller->watches[last->fd].place = watch->place;
        poller->list[watch->place] = *last;
    }
    watch->known = (uint8_t)wanted;
    return true;
}

static bool may_stay(const sgc__watch *watch)
{
    (void)watch;
    return false;
}

static unsigned events_of(short events, unsigned wanted)
{
    if (events & (POLLERR | POLLHUP | POLLNVAL))
        return wanted;
    return (events & POLLIN ? SGC__POLL_IN : 0u) | (events & POLLOUT ? SGC__POLL_OUT : 0u);
}

size_t sgc__poller_wait(sgc__poller *poller, int timeout_ms, sgc__ready *ready, size_t most)
{
    int n = poll(poller->list, (nfds_t)poller->n_list, timeout_ms);
    size_t n_ready = 0;

    poller->interrupted = n < 0 && errno == EINTR;
    if (n > 0 && poller->list[0].revents)
        bell_clear(poller);
    for (size_t i = 1; n > 0 && i < poller->n_list && n_ready < most; i++) {
        const struct pollfd *item = &poller->list[i];
        const sgc__watch *watch = &poller->watches[item->fd];
        if (item->revents)
            ready[n_ready++] = (sgc__ready){item->fd, watch->owner, events_of(item->revents, watch->wanted)};
    }
    return n_ready;
}

#endif

/* ------------------------------------------------------------------ poller */

static bool watches_grow(sgc__poller *poller, size_t need)
{
    size_t n = sgc__grow(poller->n_watches, need + 64);
    sgc__watch *watches = sgc__resize(poller->watches, n, sizeof *watches);

    if (!watches)
        return false;
    memset(watches + poller->n_watches, 0, (n - poller->n_watches) * sizeof *watches);
    poller->watches = watches;
    poller->n_watches = n;
    return true;
}

/* Of this descriptor; NULL: no memory. */
static sgc__watch *watch_of(sgc__poller *poller, int fd)
{
    if ((size_t)fd >= poller->n_watches && !watches_grow(poller, (size_t)fd))
        return NULL;
    return &poller->watches[fd];
}

bool sgc__poller_init(sgc__poller *poller)
{
    memset(poller, 0, sizeof *poller);
    poller->epoll = -1;
    if (bell_init(poller) && watch_of(poller, poller->bell[0]) && system_init(poller))
        return true;
    sgc__poller_free(poller);
    return false;
}

void sgc__poller_free(sgc__poller *poller)
{
    system_free(poller);
    sgc__release(poller->watches);
    close_if_open(poller->bell[0]);
    close_if_open(poller->bell[1]);
}

bool sgc__poller_expect(sgc__poller *poller, int fd, uint32_t owner)
{
    sgc__watch *watch = watch_of(poller, fd);

    if (watch)
        *watch = (sgc__watch){.told = true, .owner = owner};
    return watch != NULL;
}

void sgc__poller_forget(sgc__poller *poller, int fd)
{
    sgc__watch *watch = &poller->watches[fd];

    if (watch->known)
        system_tell(poller, fd, watch, 0);
    watch->wanted = 0;
    watch->told = false;
}

bool sgc__poller_watch(sgc__poller *poller, int fd, uint32_t owner, unsigned wanted)
{
    sgc__watch *watch = watch_of(poller, fd);

    if (!watch)
        return false;
    watch->owner = owner;
    watch->wanted = (uint8_t)wanted;
    if (watch->known == wanted || (!wanted && may_stay(watch)))
        return true;
    return system_tell(poller, fd, watch, wanted);
}
