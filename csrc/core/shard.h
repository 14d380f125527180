/*
 * shard.h - a scraper's connections, over several libcurl multi handles and one
 * poller. Private to csrc/core; used by the one thread that drives the scraper,
 * but for waking it.
 */
#ifndef SGC_SHARD_H
#define SGC_SHARD_H

#include "http.h"
#include "poller.h"

enum { SGC__SHARD_SIZE = 64 };

typedef struct sgc__shard {
    CURLM *multi; /* NULL until it is used, and where there was no memory to renew it */
    struct sgc__shards *all;
    uint32_t number;
    size_t most;   /* connections */
    size_t opened; /* sockets that are not closed, those of kept connections among them */
    size_t active; /* exchanges under way */
    int running;   /* ... of which libcurl, when last called, had not come to the end */
    bool lost;     /* for want of memory a socket is not watched: who waits for it waits in vain */
    int64_t due;   /* nanoseconds of the monotonic clock: when libcurl wants to be called; INT64_MAX */
    bool waits;    /* ... which is not at once: it waits for something, such as an address */
    bool hurried;  /* it is to be called at once, whatever it wants */
} sgc__shard;

typedef struct sgc__shards {
    sgc__poller poller;
    sgc__shard *list;
    uint32_t n;
    uint32_t n_used; /* the first ones */
    uint32_t last;   /* that was picked */
    size_t most;     /* connections of all together */
    bool lost;       /* one of them is */
} sgc__shards;

bool sgc__shards_init(sgc__shards *shards, size_t most); /* false: no descriptors, or no memory */
void sgc__shards_free(sgc__shards *shards);

/* A shard with connections to spare, while fewer than all of them are in use; the
 * same one till it is full, so that those to one host meet. NULL: no memory. */
sgc__shard *sgc__shard_pick(sgc__shards *shards);
/* Are all its connections in use? */
bool sgc__shard_busy(const sgc__shard *shard);

/* Begins anew, without connections, after it was lost; no exchange is under way. */
void sgc__shard_renew(sgc__shard *shard);

/* An exchange that was made ready begins, and is taken off libcurl whether it has
 * ended or not. False: no memory. */
bool sgc__shard_add(sgc__http *http);
void sgc__shard_remove(sgc__http *http);

/* A socket of its own, which is new (false: no memory), or about to be closed. */
bool sgc__shard_opened(sgc__shard *shard, int fd);
void sgc__shard_closing(sgc__shard *shard, int fd);
/* The first of its open sockets behind `fd`; -1. */
int sgc__shard_next(const sgc__shard *shard, int fd);
/* Where to keep the port that a socket of its own has at our end; 0 until it is known. */
uint16_t *sgc__shard_port(sgc__shard *shard, int fd);

/* libcurl takes its time to show or try the next address of a name: here there is none to lose. */
void sgc__shard_hurry(sgc__shard *shard);

/* When libcurl is to be called at the latest; INT64_MAX. */
int64_t sgc__shard_due(const sgc__shard *shard);
int64_t sgc__shards_due(const sgc__shards *shards);
/* Calls it in a shard whose time has come. */
void sgc__shard_tick(sgc__shard *shard);
/* Calls it for a socket that is ready. */
sgc__shard *sgc__shard_act(sgc__shards *shards, const sgc__ready *ready);

/* The next easy handle that libcurl is done with, and how it went; NULL. */
CURL *sgc__shard_done(sgc__shard *shard, CURLcode *code);

#endif
