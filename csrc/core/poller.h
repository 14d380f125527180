/*
 * poller.h - which sockets are ready: epoll on Linux, poll() elsewhere. Private
 * to csrc/core; used by one thread, but for waking it.
 */
#ifndef SGC_POLLER_H
#define SGC_POLLER_H

#include "sgc_int.h"

enum { SGC__POLL_IN = 1, SGC__POLL_OUT = 2 };

/* A socket, by its descriptor. */
typedef struct sgc__watch {
    uint32_t owner;
    uint8_t wanted; /* SGC__POLL_IN and _OUT */
    uint8_t known;  /* what the system has been told of it */
    bool told;      /* its end will be told by sgc__poller_forget */
    uint16_t port;  /* at our end, once somebody has asked for it; 0 */
    uint32_t place; /* in the list, where there is one */
} sgc__watch;

typedef struct sgc__ready {
    int fd;
    uint32_t owner;
    unsigned events; /* what is possible; of a socket that failed, all that was wanted */
} sgc__ready;

typedef struct sgc__poller {
    bool interrupted; /* a signal ended the last wait */
    int bell[2];      /* to be read and written; they may be one */
    sgc__watch *watches;
    size_t n_watches;
    int epoll;           /* on Linux */
    struct pollfd *list; /* elsewhere: of the bell, and of what is wanted */
    size_t n_list;
    size_t list_room;
} sgc__poller;

bool sgc__poller_init(sgc__poller *poller); /* false: no descriptors, or no memory */
void sgc__poller_free(sgc__poller *poller);

/* A new socket, whose end will be told. False: no memory to watch it with. */
bool sgc__poller_expect(sgc__poller *poller, int fd, uint32_t owner);
/* It is about to be closed. */
void sgc__poller_forget(sgc__poller *poller, int fd);

/* Watches a socket, which is `owner`'s, for what is wanted of it; 0: for nothing
 * any more. False: it cannot be watched. */
bool sgc__poller_watch(sgc__poller *poller, int fd, uint32_t owner, unsigned wanted);

/* Sleeps until a socket is ready, the time is over, or it is woken. Returns how
 * many are, at most `most`. */
size_t sgc__poller_wait(sgc__poller *poller, int timeout_ms, sgc__ready *ready, size_t most);

/* Ends a wait, or the next one. Any thread. */
void sgc__poller_wake(sgc__poller *poller);

#endif
