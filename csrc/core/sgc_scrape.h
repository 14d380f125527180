/*
 * sgc_scrape.h - the network side of the core: endpoints in, results out.
 *
 * A scraper is a set of connections that one thread drives. Any thread
 * submits endpoints to it and cancels them; one thread at a time waits, and
 * while it waits it moves bytes, inflates, parses and folds. A blocking scrape
 * is submit then wait. There is no second way to fetch.
 *
 * The conventions of sgc.h hold. Endpoints and guards are counted, immutable
 * and shared freely; a result has one owner and depends on no other object.
 */
#ifndef SGC_SCRAPE_H
#define SGC_SCRAPE_H

#include "sgc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The libcurl that is linked: "7.88.1". */
const char *sgc_curl_version(void);

/* A number of this process that none has that it was forked from, once one of
 * them has asked for its own. Any thread. */
uint64_t sgc_process(void);

/* -------------------------------------------------------------- failures */

/* The kind of a failure decides which exception a caller sees. */
typedef enum {
    SGC_FAIL_SCRAPE,     /* none of the following */
    SGC_FAIL_CONNECT,    /* no connection came about */
    SGC_FAIL_TIMEOUT,    /* the deadline passed */
    SGC_FAIL_STATUS,     /* an HTTP status other than 200 */
    SGC_FAIL_TLS,        /* certificate or handshake */
    SGC_FAIL_REFUSED,    /* our own policy forbids the target */
    SGC_FAIL_NOT_PAGE,   /* the answer is no exposition */
    SGC_FAIL_EXPOSITION, /* sgc_failure.parse has line and column */
    SGC_FAIL_LIMIT,      /* sgc_failure.parse has limit and allowed */
    SGC_FAIL_MEMORY,
} sgc_fail_kind;

/* X(name, slug, kind): the closed list of reasons a scrape can fail for. */
#define SGC_REASON_LIST(X)                                 \
    X(NONE, "", SCRAPE)                                    \
    X(CONNECT_FAILED, "connect_failed", CONNECT)           \
    X(RESOLVE_FAILED, "resolve_failed", CONNECT)           \
    X(LOCAL_RESOURCE, "local_resource", CONNECT)           \
    X(TIMEOUT_RESOLVE, "timeout_resolve", TIMEOUT)         \
    X(TIMEOUT_CONNECT, "timeout_connect", TIMEOUT)         \
    X(TIMEOUT_TLS, "timeout_tls", TIMEOUT)                 \
    X(TIMEOUT_FIRST_BYTE, "timeout_first_byte", TIMEOUT)   \
    X(TIMEOUT_BODY, "timeout_body", TIMEOUT)               \
    X(HTTP_STATUS, "http_status", STATUS)                  \
    X(REDIRECT, "redirect", STATUS)                        \
    X(TLS_EXPIRED, "tls_expired", TLS)                     \
    X(TLS_UNTRUSTED, "tls_untrusted", TLS)                 \
    X(TLS_HOSTNAME, "tls_hostname", TLS)                   \
    X(TLS_HANDSHAKE, "tls_handshake", TLS)                 \
    X(TLS_CONFIG, "tls_config", TLS)                       \
    X(UNSUPPORTED_SCHEME, "unsupported_scheme", REFUSED)   \
    X(BAD_URL, "bad_url", REFUSED)                         \
    X(HOST_NOT_ALLOWED, "host_not_allowed", REFUSED)       \
    X(PORT_NOT_ALLOWED, "port_not_allowed", REFUSED)       \
    X(ADDRESS_NOT_ALLOWED, "address_not_allowed", REFUSED) \
    X(NOT_EXPOSITION, "not_exposition", NOT_PAGE)          \
    X(MALFORMED, "malformed", EXPOSITION)                  \
    X(LIMIT, "limit_exceeded", LIMIT)                      \
    X(FRAMING, "framing", SCRAPE)                          \
    X(TRUNCATED, "truncated", SCRAPE)                      \
    X(ENCODING, "encoding", SCRAPE)                        \
    X(HEADERS_TOO_LARGE, "headers_too_large", SCRAPE)      \
    X(RESET, "reset", SCRAPE)                              \
    X(EMPTY_REPLY, "empty_reply", SCRAPE)                  \
    X(CANCELLED, "cancelled", SCRAPE)                      \
    X(TRANSFER, "transfer", SCRAPE)                        \
    X(OUT_OF_MEMORY, "out_of_memory", MEMORY)

typedef enum {
#define SGC_REASON_ENUM(name, slug, kind) SGC_REASON_##name,
    SGC_REASON_LIST(SGC_REASON_ENUM)
#undef SGC_REASON_ENUM
} sgc_reason;

const char *sgc_reason_slug(sgc_reason reason);
sgc_fail_kind sgc_reason_kind(sgc_reason reason);

enum { SGC_WHAT_SIZE = 200, SGC_LABEL_SIZE = 160 };

/* One failure, without the endpoint's name. All zero where there is none. */
typedef struct sgc_failure {
    sgc_reason reason;
    char what[SGC_WHAT_SIZE]; /* printable, one line: "<what was seen>; <what
                                 was expected>"; never a byte of the body */
    int status;               /* STATUS kind: the HTTP status */
    double retry_after;       /* seconds the server asked for; NaN: it did not */
    sgc_error parse;          /* MALFORMED and LIMIT */
} sgc_failure;

/* ----------------------------------------------------------------- guard */

/* Which targets may be connected to. Decides on the name before it is looked
 * up, and on every socket address before a packet leaves. */
typedef struct sgc_guard sgc_guard;

/* Entries: "*" (any address but those always denied), "10.1.0.0/16:30000-30099",
 * "10.1.2.3", "[fd00::/8]:30000", "sglang-*.svc:30000", "http://gpu1:30000/metrics".
 * Ports 30000-30099 where an entry gives none. No entry: every target is
 * refused. ARGUMENT names the entry it cannot read in err->excerpt. */
sgc_status sgc_guard_new(const sgc_str *entries, size_t n, sgc_guard **guard, sgc_error *err);
sgc_guard *sgc_guard_retain(sgc_guard *guard);
void sgc_guard_free(sgc_guard *guard);

struct sockaddr;

/* May a socket be connected to this address, for a URL that names this host? */
bool sgc_guard_allows_address(const sgc_guard *guard, sgc_str host, const struct sockaddr *addr);
/* May this host and port be looked up at all? NONE, or the reason why not. */
sgc_reason sgc_guard_check_host(const sgc_guard *guard, sgc_str host, uint16_t port);

/* -------------------------------------------------------------- endpoint */

/* A URL and how to ask it. */
typedef struct sgc_endpoint sgc_endpoint;

typedef struct sgc_header {
    sgc_str name;
    sgc_str value;
} sgc_header;

typedef struct sgc_endpoint_options {
    sgc_str url;    /* http or https; no user info */
    double timeout; /* seconds, whole scrape from submission; 0.001 to 3600 */
    const sgc_header *headers;
    size_t n_headers;
    sgc_str user_agent;
    sgc_str bearer_token; /* ptr NULL: none */
    sgc_str basic_user;   /* ptr NULL: none */
    sgc_str basic_password;
    sgc_str ca_file;     /* PEM; ptr NULL: the system's */
    sgc_str client_cert; /* PEM; ptr NULL: none */
    sgc_str client_key;  /* ptr NULL: inside client_cert */
    bool verify;         /* certificate and host name */
    bool json;           /* the answer is JSON and no page: asked for as such, and not read */
    sgc_limits limits;
} sgc_endpoint_options;

/* Defaults: timeout 10 s, verify, default limits, the rest empty. */
void sgc_endpoint_options_init(sgc_endpoint_options *options);

/* Checks everything that can be checked without I/O to the target, and copies
 * it. ARGUMENT (err): a timeout out of range, CR, LF or NUL in a header or
 * credential (whose value is not repeated). OK with *endpoint NULL: *failure
 * says what is wrong with the URL (REFUSED kind) or the TLS files (TLS_CONFIG). */
sgc_status sgc_endpoint_new(const sgc_endpoint_options *options, sgc_endpoint **endpoint,
                            sgc_failure *failure, sgc_error *err);
sgc_endpoint *sgc_endpoint_retain(sgc_endpoint *endpoint);
void sgc_endpoint_free(sgc_endpoint *endpoint);

/* The URL as it may be shown: no user info, no query values, printable, at most
 * SGC_LABEL_SIZE - 1 bytes; writes it NUL-terminated into `out`. */
void sgc_url_label(sgc_str url, char out[SGC_LABEL_SIZE]);

/* ---------------------------------------------------------------- result */

typedef enum { SGC_FRAMING_NONE, SGC_FRAMING_LENGTH, SGC_FRAMING_CHUNKED, SGC_FRAMING_CLOSE } sgc_framing;

/* Seconds since submission at which each stage ended; 0 where it did not. */
typedef struct sgc_timings {
    double resolved;
    double connected;
    double tls;
    double first_byte;
    double received;
    double done; /* inflated, parsed and folded: the elapsed time of the scrape */
} sgc_timings;

typedef struct sgc_result {
    uint64_t id;         /* what submit gave */
    sgc_failure failure; /* reason NONE: a good scrape */
    double started;      /* seconds since 1970 at submission */
    double at;           /* the same moment in seconds by the clock that nobody sets */
    sgc_timings timings;
    int status;          /* HTTP status, 0 before one came */
    sgc_framing framing; /* how the end of the body was told */
    sgc_format format;   /* by Content-Type */
    bool reused;         /* over a kept connection */
    bool retried;        /* asked again on a new connection: a kept one had died, mostly */
    uint64_t wire_bytes; /* of the body, as sent */
    char *body;          /* inflated; NULL where the scrape failed */
    size_t body_len;
    size_t body_room; /* bytes of memory that `body` is in */
    sgc_fold *fold;   /* NULL where it failed, no plan was given or it is JSON */
} sgc_result;

/* Frees the result, its body and its fold; each may be taken out before by
 * setting it NULL (sgc_body_free then frees the body, wherever and whenever).
 * While there is a scraper, memory of bodies is kept for the next ones, at most
 * 16 MiB in the process. */
void sgc_result_free(sgc_result *result);
void sgc_body_free(char *body, size_t room);

/* --------------------------------------------------------------- scraper */

typedef struct sgc_scraper sgc_scraper;

typedef struct sgc_scraper_options {
    sgc_guard *guard;         /* retained; NULL: every target is allowed */
    unsigned max_connections; /* open at once */
    unsigned max_lookups;     /* name look-ups in flight */
} sgc_scraper_options;

/* No guard, 1,000 connections, 64 lookups. */
void sgc_scraper_options_init(sgc_scraper_options *options);

sgc_status sgc_scraper_new(const sgc_scraper_options *options, sgc_scraper **scraper, sgc_error *err);

/* Drops what is pending and closes every connection; no thread may be inside
 * wait. In a process forked since, it touches none of the parent's sockets. */
void sgc_scraper_free(sgc_scraper *scraper);

/* Queues one scrape of `endpoint`, folded by `plan` (NULL: the body alone is
 * wanted, unread). Both are retained. Its deadline runs from here. Any thread. */
sgc_status sgc_scraper_submit(sgc_scraper *scraper, sgc_endpoint *endpoint, sgc_plan *plan, uint64_t *id,
                              sgc_error *err);

/* Likewise a scrape of each of `n` endpoints, or of none where it fails; their ids
 * follow each other from *first on. A thread inside wait is woken once. */
sgc_status sgc_scraper_submit_all(sgc_scraper *scraper, sgc_endpoint *const *endpoints, size_t n,
                                  sgc_plan *plan, uint64_t *first, sgc_error *err);

/* Drives the transfers until at least one is finished, the time is over (in
 * milliseconds), sgc_scraper_wake is called, this thread handles a signal or
 * nothing is pending, and moves up to `cap` results into `results`. Without end
 * where the time is negative, then also while nothing is pending. A failed scrape
 * is a result, not a failure. BUSY where another thread is inside. */
sgc_status sgc_scraper_wait(sgc_scraper *scraper, int timeout_ms, sgc_result **results, size_t cap, size_t *n,
                            sgc_error *err);

/* Ends one pending scrape (0: all) with the reason CANCELLED, which the next
 * wait returns; unknown ids are ignored. Any thread. */
void sgc_scraper_cancel(sgc_scraper *scraper, uint64_t id);

/* Makes a waiting thread return at once. Any thread. */
void sgc_scraper_wake(sgc_scraper *scraper);

/* Scrapes submitted whose result no wait has returned yet. Any thread. */
size_t sgc_scraper_pending(sgc_scraper *scraper);

#ifdef __cplusplus
}
#endif
#endif
