/*
 * http.h - the core's use of libcurl: what an endpoint holds, and one exchange
 * (a request and its answer) over an easy handle. Private to csrc/core.
 */
#ifndef SGC_HTTP_H
#define SGC_HTTP_H

#include "answer.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* --------------------------------------------------------------- endpoint */

enum { SGC__HOST_SIZE = 256 };

typedef struct sgc__lesson sgc__lesson;

/* Immutable but for its counters. Text is NUL-terminated; NULL: not given. */
struct sgc_endpoint {
    atomic_uint refs;
    atomic_uint slot;              /* which of a scraper's handles was last set up for it: a guess */
    atomic_size_t body;            /* bytes of its last body */
    _Atomic(sgc__lesson *) lesson; /* what its pages taught; whoever folds one takes it out meanwhile */
    atomic_uint rest;              /* pages to be folded before the next that is learned from */
    atomic_uint useless;           /* lessons in a row that no page has fitted */
    CURLU *url;                    /* parsed once; libcurl copies it and never writes to it */
    struct curl_slist *headers;
    char host[SGC__HOST_SIZE]; /* as libcurl normalised it; IPv6 in brackets */
    uint16_t port;
    bool https;
    bool numeric; /* needs no look-up */
    bool verify;
    bool json;
    double timeout;
    sgc_limits limits;
    const char *user_agent;
    const char *bearer_token;
    const char *basic_user;
    const char *basic_password;
    const char *ca_file;
    const char *client_cert;
    const char *client_key;
    char text[];
};

/* Once for the process; false: libcurl cannot be used. */
bool sgc__http_init(void);

/* All options of a handle that follow from the endpoint. */
CURLcode sgc__http_configure(CURL *easy, const sgc_endpoint *endpoint);

/* Are the CA file, certificate and key of use? Lets libcurl load them, for a
 * handshake with nobody. Else *failure is TLS_CONFIG or OUT_OF_MEMORY. */
void sgc__http_check_tls(const sgc_endpoint *endpoint, sgc_failure *failure);

/* Keeps SIGPIPE from the thread while libcurl runs in it: writing to a TLS
 * connection that the peer has closed raises it, and libcurl must not touch
 * signal handlers in a process that has threads. */
typedef struct sgc__pipe_mask {
    sigset_t before;
    bool blocked; /* by us */
} sgc__pipe_mask;

void sgc__pipe_block(sgc__pipe_mask *mask);
void sgc__pipe_unblock(const sgc__pipe_mask *mask);

/* --------------------------------------------------------------- exchange */

/* An easy handle, the endpoint it is set up for, and the exchange it carries. */
typedef struct sgc__http {
    CURL *easy;
    sgc_endpoint *endpoint;   /* retained */
    const sgc_guard *guard;   /* of the scraper, or NULL */
    struct sgc__shard *shard; /* whose connections it uses, and which outlives them */
    size_t *lookups;          /* how many of the scraper's exchanges are being looked up */
    sgc__answer answer;
    unsigned requests;        /* sent for this scrape */
    bool looking;             /* counted in *lookups */
    bool fresh;               /* must not use a kept connection */
    bool opened;              /* a socket was made */
    bool asked;               /* the request was handed to a connection */
    bool again;               /* the kept connection was of no use */
    bool showing;             /* the addresses of a name are looked at before any is connected to */
    bool shown;               /* ... and all of them are allowed */
    bool doubted;             /* asked again because memory may have been short */
    bool forbidden;           /* libcurl was told to close the connection */
    bool watched;             /* it tells of the TLS handshake */
    bool wants_cert;          /* ... in which the server asked for a certificate of ours */
    int open_errno;           /* why the last socket could not be made */
    struct sockaddr_in6 peer; /* the last address tried; holds IPv4 too */
    int fd;                   /* of the connection last opened, and its port at our end */
    int local_port;
    char why[CURL_ERROR_SIZE];
} sgc__http;

void sgc__http_free(sgc__http *http); /* what it holds */

/* Sets the handle up for this endpoint; nothing to do where it is. */
CURLcode sgc__http_prepare(sgc__http *http, sgc_endpoint *endpoint);

/* From now on it uses the connections of this shard. Not while it carries anything. */
void sgc__http_place(sgc__http *http, struct sgc__shard *shard);

/* Makes ready for one request, which may take `timeout_ms`. */
CURLcode sgc__http_begin(sgc__http *http, sgc_failure *failure, long timeout_ms, bool fresh);

/* libcurl is done with it. False: ask once more, on a new connection. Else the body
 * is in http->answer, or its failure is set. */
bool sgc__http_end(sgc__http *http, CURLcode code);

/* Sets the failure of an exchange that is under way and whose time is over, by
 * how far it came. */
void sgc__http_expire(sgc__http *http);

/* Frees what belongs to the exchange. A handle that saw a failure remembers its
 * errno, which would speak for the next one: it is not to be kept. */
void sgc__http_release(sgc__http *http, bool keep);

/* Seconds since `http` began at which each stage ended, all later by `offset`. */
void sgc__http_timings(const sgc__http *http, double offset, sgc_timings *timings);

#endif
