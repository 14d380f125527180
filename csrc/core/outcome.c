/*
 * outcome.c - what an exchange that ended amounts to: a body, one more try, or
 * a failure with its reason and text.
 */
#define _DEFAULT_SOURCE 1
#define _DARWIN_C_SOURCE 1

#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define FAIL(http, ...) sgc__failure_set((http)->answer.failure, __VA_ARGS__)

/* ----------------------------------------------------------------- details */

enum { PLACE_SIZE = INET6_ADDRSTRLEN + 10 };

/* "10.1.2.3:30000" or "[fd00::1]:30000": the address last tried. */
static void peer_text(const sgc__http *http, char out[PLACE_SIZE])
{
    char ip[INET6_ADDRSTRLEN] = "";
    struct sockaddr_in v4;

    memcpy(&v4, &http->peer, sizeof v4);
    if (v4.sin_family == AF_INET) {
        inet_ntop(AF_INET, &v4.sin_addr, ip, sizeof ip);
        snprintf(out, PLACE_SIZE, "%s:%u", ip, ntohs(v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &http->peer.sin6_addr, ip, sizeof ip);
        snprintf(out, PLACE_SIZE, "[%s]:%u", ip, ntohs(http->peer.sin6_port));
    }
}

/* Words that no locale changes. */
static const char *errno_text(long number)
{
    switch (number) {
    case ECONNREFUSED:
        return "connection refused";
    case ECONNRESET:
        return "connection reset";
    case EHOSTUNREACH:
        return "no route to host";
    case ENETUNREACH:
        return "network is unreachable";
    case ENETDOWN:
        return "network is down";
    case EHOSTDOWN:
        return "host is down";
    case ETIMEDOUT:
        return "connection timed out";
    case EADDRNOTAVAIL:
        return "no local address or port left";
    case EACCES:
    case EPERM:
        return "not permitted by this system";
    default:
        return "no connection";
    }
}

static long os_errno(const sgc__http *http)
{
    long number = 0;

    curl_easy_getinfo(http->easy, CURLINFO_OS_ERRNO, &number);
    return number;
}

static double info_seconds(const sgc__http *http, CURLINFO info)
{
    curl_off_t microseconds = 0;

    curl_easy_getinfo(http->easy, info, &microseconds);
    return (double)microseconds / 1e6;
}

static bool is_exhausted(int number)
{
    return number == EMFILE || number == ENFILE || number == ENOBUFS || number == ENOMEM;
}

/* A look-up needs descriptors too, but libcurl says only that it failed. */
static bool no_descriptor_left(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        return is_exhausted(errno);
    close(fd);
    return false;
}

static bool no_memory_left(void)
{
    void *probe = sgc__alloc(2, SGC__HEADER_BYTES);

    sgc__release(probe);
    return probe == NULL;
}

/* ------------------------------------------------------------------ timeout */

/* libcurl tells the time of a connection only when its TLS stands as well. */
static bool is_connected(int fd)
{
    struct sockaddr_in6 addr;
    socklen_t len = sizeof addr;

    return fd >= 0 && getpeername(fd, (struct sockaddr *)&addr, &len) == 0;
}

void sgc__http_expire(sgc__http *http)
{
    double timeout = http->endpoint->timeout;
    char progress[SGC__PROGRESS_SIZE], peer[PLACE_SIZE];

    if (http->answer.headers_done) {
        sgc__answer_progress(&http->answer, progress);
        FAIL(http, SGC_REASON_TIMEOUT_BODY, "%s received; the timeout is %g s", progress, timeout);
    } else if (http->asked) {
        FAIL(http, SGC_REASON_TIMEOUT_FIRST_BYTE,
             "connected, but no complete answer began; the timeout is %g s", timeout);
    } else if (!http->opened && !http->endpoint->numeric) {
        FAIL(http, SGC_REASON_TIMEOUT_RESOLVE, "host name is not resolved; the timeout is %g s", timeout);
    } else if (http->endpoint->https && is_connected(http->fd)) {
        FAIL(http, SGC_REASON_TIMEOUT_TLS, "TLS handshake is not finished; the timeout is %g s", timeout);
    } else {
        peer_text(http, peer);
        FAIL(http, SGC_REASON_TIMEOUT_CONNECT, "no connection to %s; the timeout is %g s", peer, timeout);
    }
}

/* --------------------------------------------------------------- connection */

static void fail_exhausted(sgc__http *http)
{
    FAIL(http, SGC_REASON_LOCAL_RESOURCE, "no file descriptors left; the limit on open files is reached");
}

/* Where memory is short libcurl may have passed over an address, and tells of
 * the others alone. */
static void fail_connect(sgc__http *http)
{
    long number = http->open_errno ? http->open_errno : os_errno(http);
    char peer[PLACE_SIZE];

    if (is_exhausted(http->open_errno)) {
        fail_exhausted(http);
        return;
    }
    if (no_memory_left()) {
        sgc__failure_memory(http->answer.failure);
        return;
    }
    peer_text(http, peer);
    FAIL(http, SGC_REASON_CONNECT_FAILED, "%s at %s; expected a listening server", errno_text(number), peer);
}

/* An IPv4 address needs no resolver: there only memory can be missing. */
static void fail_resolve(sgc__http *http)
{
    bool known = http->endpoint->numeric && http->endpoint->host[0] != '[';

    if (no_descriptor_left())
        fail_exhausted(http);
    else if (known || no_memory_left())
        sgc__failure_memory(http->answer.failure);
    else
        FAIL(http, SGC_REASON_RESOLVE_FAILED, "host name has no address; expected one that resolves");
}

/* libcurl's ceiling for one line of a header comes out as "out of memory",
 * before it had a code for that: where there is memory it may be either. */
static bool is_long_line(const sgc__http *http, CURLcode code)
{
    enum { TELLS_THEM_APART = 0x080600 };

    return code == CURLE_OUT_OF_MEMORY && http->asked && !http->answer.headers_done &&
           info_seconds(http, CURLINFO_STARTTRANSFER_TIME_T) > 0 &&
           curl_version_info(CURLVERSION_NOW)->version_num < TELLS_THEM_APART && !no_memory_left();
}

static void fail_memory(sgc__http *http)
{
    if (!http->opened && !http->asked && no_descriptor_left())
        fail_exhausted(http);
    else if (is_long_line(http, CURLE_OUT_OF_MEMORY))
        FAIL(http, SGC_REASON_HEADERS_TOO_LARGE, "a header line is too long; the limit is %d bytes for all",
             SGC__HEADER_BYTES);
    else
        sgc__failure_memory(http->answer.failure);
}

/* ---------------------------------------------------------------------- TLS */

/* The words of OpenSSL's verify codes that a person can act on; 0 and 1 stay
 * where the chain was good and only the name differed. */
static void fail_certificate(sgc__http *http)
{
    enum { OK = 0, UNSPECIFIED = 1, NOT_YET_VALID = 9, EXPIRED = 10 };
    long verdict = 0;

    curl_easy_getinfo(http->easy, CURLINFO_SSL_VERIFYRESULT, &verdict);
    if (verdict == OK || verdict == UNSPECIFIED)
        FAIL(http, SGC_REASON_TLS_HOSTNAME, "certificate is for another name; expected %.100s",
             http->endpoint->host);
    else if (verdict == EXPIRED || verdict == NOT_YET_VALID)
        FAIL(http, SGC_REASON_TLS_EXPIRED, "certificate %s; expected a valid one",
             verdict == EXPIRED ? "has expired" : "is not valid yet");
    else
        FAIL(http, SGC_REASON_TLS_UNTRUSTED,
             "certificate is not trusted; its issuer can be given as ca_file=");
}

/* With TLS 1.3 a server refuses a missing client certificate after the
 * handshake, by an alert, which nothing but libcurl's text tells from a reset. */
static bool is_alert(const sgc__http *http)
{
    return http->endpoint->https && http->answer.header_bytes == 0 && strstr(http->why, "alert");
}

static bool is_broken(CURLcode code)
{
    return code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR;
}

/* With TLS 1.3 our end of the handshake is done before the server looks at our
 * certificate. Many just hang up where they miss one, and what of their alert
 * is not lost comes as a reset or an end. */
static bool is_hung_up(const sgc__http *http, CURLcode code)
{
    return is_broken(code) && http->wants_cert && http->asked && http->answer.header_bytes == 0;
}

/* ------------------------------------------------------------------ transfer */

/* libcurl keeps a trailer line whole, up to 4 KiB. Older ones call a longer one
 * a chunk for which there is no memory. */
static bool is_long_trailer(const sgc__http *http)
{
    return strstr(http->why, "Out of memory in chunked") && !no_memory_left();
}

static void fail_receive(sgc__http *http)
{
    char progress[SGC__PROGRESS_SIZE];
    bool reset = os_errno(http) == ECONNRESET;

    sgc__answer_progress(&http->answer, progress);
    if (is_alert(http))
        FAIL(http, SGC_REASON_TLS_HANDSHAKE,
             "server ended the TLS handshake with an alert; "
             "expected it to accept the connection");
    else if (is_long_trailer(http))
        FAIL(http, SGC_REASON_HEADERS_TOO_LARGE, "a trailer line is too long; the limit is 4096 bytes");
    else if (!reset && http->answer.headers_done && http->answer.framing == SGC_FRAMING_CHUNKED)
        FAIL(http, SGC_REASON_FRAMING, "chunk is malformed after %s; expected chunked coding", progress);
    else if (http->answer.headers_done)
        FAIL(http, SGC_REASON_RESET, "connection broke after %s; expected the whole body", progress);
    else
        FAIL(http, SGC_REASON_RESET, "connection broke before an answer; expected an answer");
}

static void fail_short(sgc__http *http)
{
    char progress[SGC__PROGRESS_SIZE];

    sgc__answer_progress(&http->answer, progress);
    if (http->answer.framing == SGC_FRAMING_CHUNKED)
        FAIL(http, SGC_REASON_TRUNCATED, "%s, then the connection closed; expected a last chunk", progress);
    else
        FAIL(http, SGC_REASON_TRUNCATED, "%s, then the connection closed; expected all of them", progress);
}

enum { TOO_LARGE = 100 }; /* CURLE_TOO_LARGE, which older headers do not have */

/* Codes that need no second look. */
static const struct {
    int code;
    sgc_reason reason;
    const char *what;
} plain_codes[] = {
#define NOT_HTTP \
    "not an HTTP/1.x answer; expected a status line, headers with one Content-Length at most, and a body"
#define BAD_FILES "TLS files cannot be loaded; expected PEM in ca_file= and client_cert="
    {CURLE_UNSUPPORTED_PROTOCOL, SGC_REASON_FRAMING, NOT_HTTP}, /* HTTP/0.9; schemes are refused before */
    {CURLE_WEIRD_SERVER_REPLY, SGC_REASON_FRAMING, NOT_HTTP},
    {CURLE_BAD_FUNCTION_ARGUMENT, SGC_REASON_FRAMING,
     NOT_HTTP}, /* a first header or a trailer without colon */
    {CURLE_BAD_CONTENT_ENCODING, SGC_REASON_FRAMING, NOT_HTTP}, /* a Transfer-Encoding not asked for */
    {TOO_LARGE, SGC_REASON_HEADERS_TOO_LARGE, "a header is too long; the limit is 65536 bytes for all"},
    {CURLE_GOT_NOTHING, SGC_REASON_EMPTY_REPLY, "connection closed without an answer; expected an answer"},
    {CURLE_SSL_CONNECT_ERROR, SGC_REASON_TLS_HANDSHAKE,
     "TLS handshake failed; expected a server that speaks TLS 1.2 or later"},
    {CURLE_SSL_CACERT_BADFILE, SGC_REASON_TLS_CONFIG, BAD_FILES},
    {CURLE_SSL_CERTPROBLEM, SGC_REASON_TLS_CONFIG, BAD_FILES},
};

static void fail_code(sgc__http *http, CURLcode code)
{
    if (is_hung_up(http, code))
        FAIL(http, SGC_REASON_TLS_HANDSHAKE,
             "server asked for a certificate in the TLS handshake and hung up; expected it to accept %s",
             http->endpoint->client_cert ? "that of client_cert="
                                         : "none, or to be given one as client_cert=");
    for (size_t i = 0; i < sizeof plain_codes / sizeof *plain_codes; i++)
        if (plain_codes[i].code == (int)code)
            FAIL(http, plain_codes[i].reason, "%s", plain_codes[i].what);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        fail_resolve(http);
        break;
    case CURLE_COULDNT_CONNECT:
        fail_connect(http);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        http->fd = -1; /* closed by now */
        sgc__http_expire(http);
        break;
    case CURLE_OUT_OF_MEMORY:
        fail_memory(http);
        break;
    case CURLE_URL_MALFORMAT: /* it was read before: a copy failed */
        sgc__failure_memory(http->answer.failure);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
        fail_certificate(http);
        break;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        fail_receive(http);
        break;
    case CURLE_PARTIAL_FILE:
        fail_short(http);
        break;
    default: /* unless it is one of those above */
        FAIL(http, SGC_REASON_TRANSFER, "%s; expected a whole answer", curl_easy_strerror(code));
    }
}

/* Seconds, or an HTTP date; NaN where it is neither. */
static double retry_after(const char *text)
{
    int64_t seconds;
    time_t when;

    if (sgc__integer_read((sgc_str){text, strlen(text)}, &seconds))
        return seconds >= 0 ? (double)seconds : NAN;
    when = text[0] ? curl_getdate(text, NULL) : -1;
    return when < 0 ? NAN : fmax(0, difftime(when, time(NULL)));
}

/* A kept connection that died before a byte came back: the server closes idle
 * ones, and may do so just while the request is on its way. */
static bool kept_died(const sgc__http *http, CURLcode code)
{
    return http->again || (is_broken(code) && !http->opened && http->answer.header_bytes == 0);
}

/* Once for each cause, on a new connection. A line that is too long is so again;
 * addresses that were only shown are now connected to. */
static bool asks_again(sgc__http *http, CURLcode code)
{
    if (http->answer.failure->reason != SGC_REASON_NONE)
        return false;
    if (http->showing && code == CURLE_COULDNT_CONNECT)
        return http->shown = true;
    if (!http->doubted && is_long_line(http, code))
        return http->doubted = true;
    return !http->fresh && http->requests < 2 && kept_died(http, code);
}

bool sgc__http_end(sgc__http *http, CURLcode code)
{
    sgc_failure *failure = http->answer.failure;

    if (asks_again(http, code))
        return false;
    if (code == CURLE_OK)
        sgc__answer_end(&http->answer);
    else if (http->again)
        FAIL(http, SGC_REASON_RESET, "kept connections broke before an answer; expected an answer");
    else
        fail_code(http, code);
    if (sgc_reason_kind(failure->reason) == SGC_FAIL_STATUS)
        failure->retry_after = retry_after(http->answer.retry_after);
    return true;
}

void sgc__http_timings(const sgc__http *http, double offset, sgc_timings *timings)
{
    static const struct {
        CURLINFO info;
        size_t at;
    } stages[] = {
        {CURLINFO_NAMELOOKUP_TIME_T, offsetof(sgc_timings, resolved)},
        {CURLINFO_CONNECT_TIME_T, offsetof(sgc_timings, connected)},
        {CURLINFO_APPCONNECT_TIME_T, offsetof(sgc_timings, tls)},
        {CURLINFO_STARTTRANSFER_TIME_T, offsetof(sgc_timings, first_byte)},
    };

    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        double seconds = info_seconds(http, stages[i].info);
        double value = seconds > 0 ? offset + seconds : 0;
        memcpy((char *)timings + stages[i].at, &value, sizeof value);
    }
}
