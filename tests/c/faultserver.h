/*
 * faultserver.h - an HTTP server of raw sockets and threads on 127.0.0.1. The
 * path of a request says what happens to it: see `answers` and `serve`. The
 * program that includes it defines _DEFAULT_SOURCE.
 */
#ifndef FAULTSERVER_H
#define FAULTSERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "check.h"

static inline double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* Seconds for which this process has got no processor: by which a thread's sleeps were too long. */
static _Atomic double late;

static void *late_main(void *arg)
{
    for (;;) {
        double asleep = now();
        sleep_ms(5);
        atomic_store(&late, atomic_load(&late) + now() - asleep - 0.005);
    }
    return arg;
}

/* A moment to count from. */
typedef struct moment {
    double at, late;
} moment;

static inline moment this_moment(void)
{
    return (moment){now(), atomic_load(&late)};
}

static inline double elapsed(moment since)
{
    return now() - since.at;
}

/* The same without what the machine, busy with others, added. */
static inline double undisturbed(moment since)
{
    return elapsed(since) - (atomic_load(&late) - since.late);
}

static struct {
    int fd;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock; /* the request seen last */
    char request[2000];
    atomic_int open, accepted, requests, poisoned;
    atomic_bool stopping;
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Waits for what another thread brings about, with a ceiling that only a hang reaches,
 * or what has failed already. */
static inline bool eventually(bool (*holds)(void *), void *arg)
{
    double patience = check_failed ? 1 : 60;

    for (double began = now(); !holds(arg); sleep_ms(1))
        if (now() - began > patience)
            return false;
    return true;
}

static bool nobody_is_served(void *arg)
{
    (void)arg;
    return atomic_load(&server.open) == 0;
}

static bool send_all(int fd, const void *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0)
            return false;
        data = (const char *)data + n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_text(int fd, const char *text)
{
    return send_all(fd, text, strlen(text));
}

/* Writes `piece` every 50 ms for as long as somebody reads. */
static void drip(int fd, const char *piece)
{
    while (!atomic_load(&server.stopping) && send_text(fd, piece))
        sleep_ms(50);
}

static void flood(int fd, const char *piece)
{
    char block[4096];
    size_t len = strlen(piece), used = 0;

    while (used + len <= sizeof block) {
        memcpy(block + used, piece, len);
        used += len;
    }
    while (send_all(fd, block, used))
        ;
}

static void wait_for_close(int fd)
{
    char byte;

    while (recv(fd, &byte, 1, 0) > 0)
        ;
}

static void send_page(int fd, const char *body)
{
    char text[400];

    snprintf(text, sizeof text,
             "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    send_text(fd, text);
}

static void send_gzip(int fd, size_t cut)
{
    static const char text[] = "a 1\n";
    unsigned char out[100];
    char head[200];
    z_stream stream = {0};

    deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
    stream.next_in = (z_const Bytef *)text;
    stream.avail_in = sizeof text - 1;
    stream.next_out = out;
    stream.avail_out = sizeof out;
    deflate(&stream, Z_FINISH);
    deflateEnd(&stream);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
             (size_t)stream.total_out - cut);
    send_text(fd, head);
    send_all(fd, out, stream.total_out - cut);
}

static void reset(int fd)
{
    struct linger linger = {1, 0};

    sleep_ms(20); /* what was sent has arrived */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define SIZED(n) "HTTP/1.1 200 OK\r\nContent-Length: " #n "\r\n\r\n"

/* Answers that always are the same: what is sent first, and what happens then. */
static const struct {
    const char *path;
    enum { CLOSE, KEEP, SILENT, RESET, DRIP, FLOOD } then;
    const char *head;
    const char *piece; /* DRIP, FLOOD */
} answers[] = {
    {"/chunked", KEEP, CHUNKED "4\r\na 1\n\r\n4\r\nb 2\n\r\n0\r\n\r\n", NULL},
    {"/both", KEEP,
     "HTTP/1.1 200 OK\r\nContent-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n0\r\n\r\n",
     NULL},
    {"/excess", KEEP, SIZED(4) "a 1\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npoison 1\n", NULL},
    {"/404", KEEP, "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret", NULL},
    {"/503", KEEP, "HTTP/1.1 503 x\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n", NULL},
    {"/503-date", KEEP,
     "HTTP/1.1 503 x\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n", NULL},
    {"/503-junk", KEEP, "HTTP/1.1 503 x\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", NULL},
    {"/redirect", KEEP, "HTTP/1.1 302 x\r\nLocation: /page\r\nContent-Length: 0\r\n\r\n", NULL},
    {"/redirect-once", CLOSE,
     "HTTP/1.1 307 x\r\nLocation: /page\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", NULL},
    {"/html", KEEP, "HTTP/1.1 200 x\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\nsecret", NULL},
    {"/cut", CLOSE, SIZED(1000) "a 1\nb 2\n", NULL},
    {"/cut-chunk", CLOSE, CHUNKED "100\r\na 1\n", NULL},
    {"/no-last-chunk", CLOSE, CHUNKED "4\r\na 1\n\r\n", NULL},
    {"/bad-chunk", CLOSE, CHUNKED "ZZ\r\na 1\n\r\n", NULL},
    {"/to-the-end", CLOSE, "HTTP/1.1 200 OK\r\n\r\na 1\n", NULL},
    {"/cut-line", CLOSE, "HTTP/1.1 200 OK\r\n\r\na 1\nb 12", NULL},
    {"/empty", CLOSE, "", NULL},
    {"/http09", CLOSE, "a 1\n", NULL},
    {"/http9", CLOSE, "HTTP/9.9 200 OK\r\n\r\na 1\n", NULL},
    {"/status9999", CLOSE, "HTTP/1.1 9999 x\r\n\r\na 1\n", NULL},
    {"/two-lengths", CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 2\r\n\r\na 1\n", NULL},
    {"/negative", CLOSE, SIZED(-5) "a 1\n", NULL},
    {"/huge-length", CLOSE, SIZED(99999999999999999999999) "a 1\n", NULL},
    {"/over-limit", CLOSE, SIZED(9223372036854775807) "a 1\n", NULL},
    {"/te-gzip", CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\na 1\n\r\n0\r\n\r\n",
     NULL},
    {"/br", CLOSE, "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\na 1\n", NULL},
    {"/no-colon", CLOSE, "HTTP/1.1 200 OK\r\nno colon\r\n\r\na 1\n", NULL},
    {"/cut-header", CLOSE, "HTTP/1.1 200 OK\r\nContent-Le", NULL},
    {"/101", SILENT, "HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n", NULL},
    {"/silent", SILENT, "", NULL},
    {"/reset", RESET, "", NULL},
    {"/reset-body", RESET, SIZED(1000) "a 1\n", NULL},
    {"/reset-chunk", RESET, CHUNKED "100\r\na 1\n", NULL},
    {"/drip-head", DRIP, "HTTP/1.1 200 OK\r\nX: ", "y"},
    {"/drip-body", DRIP, SIZED(1000), "a"},
    {"/drip-404", DRIP, "HTTP/1.1 404 x\r\nContent-Length: 1000\r\n\r\n", "a"},
    {"/extension", DRIP, CHUNKED "4;", "aaaaaaaa"},
    {"/endless", FLOOD, "HTTP/1.1 200 OK\r\n\r\n", "a 1\n"},
    {"/endless-chunks", FLOOD, CHUNKED, "8\r\na 1\nb 2\n\r\n"},
    {"/endless-404", FLOOD, "HTTP/1.1 404 x\r\n\r\n", "a 1\n"},
    {"/trailers", FLOOD, CHUNKED "4\r\na 1\n\r\n0\r\n", "X: y\r\n"},
    {"/headers", FLOOD, "HTTP/1.1 200 OK\r\n", "X: y\r\n"},
    {"/header-line", FLOOD, "HTTP/1.1 200 OK\r\nX: ", "yyyyyyyy"},
    {"/status-line", FLOOD, "HTTP/1.1 200 ", "yyyyyyyy"},
    {"/interim", FLOOD, "", "HTTP/1.1 103 x\r\n\r\n"},
};

/* False: close. */
static bool serve_same(int fd, const char *path)
{
    size_t i = 0;

    while (i < sizeof answers / sizeof *answers && strcmp(path, answers[i].path) != 0)
        i++;
    if (i == sizeof answers / sizeof *answers)
        return false;
    send_text(fd, answers[i].head);
    if (answers[i].then == SILENT)
        wait_for_close(fd);
    else if (answers[i].then == RESET)
        reset(fd);
    else if (answers[i].then == DRIP)
        drip(fd, answers[i].piece);
    else if (answers[i].then == FLOOD)
        flood(fd, answers[i].piece);
    return answers[i].then == KEEP;
}

/* Serves the nth request of a connection; false: close. */
static bool serve(int fd, const char *path, int nth)
{
    char body[200];

    if (strcmp(path, "/page") == 0) {
        send_page(fd, "a 1\nb 2\n");
    } else if (strcmp(path, "/malformed") == 0) {
        send_page(fd, "a 1\nb secret\n");
    } else if (strcmp(path, "/gzip") == 0) {
        send_gzip(fd, 0);
    } else if (strcmp(path, "/cut-gzip") == 0) {
        send_gzip(fd, 3);
    } else if (strncmp(path, "/id/", 4) == 0) {
        snprintf(body, sizeof body, "a{id=\"%s\"} 1\n", path + 4);
        send_page(fd, body);
    } else if (strcmp(path, "/once") == 0 && nth == 1) {
        send_page(fd, "a 1\n");
    } else if (strcmp(path, "/once-reset") == 0) {
        if (nth > 1)
            reset(fd);
        else
            send_page(fd, "a 1\n");
        return nth == 1;
    } else if (strcmp(path, "/late") == 0) {
        send_page(fd, "a 1\n");
        sleep_ms(30);
        send_page(fd, "poison 1\n");
        atomic_fetch_add(&server.poisoned, 1);
    } else {
        return serve_same(fd, path);
    }
    return true;
}

/* Reads up to the blank line behind a request's headers, where it ends: nobody
 * asks before the answer to the last is there. */
static bool read_request(int fd, char path[100])
{
    char text[2000];
    size_t used = 0;

    while (used < sizeof text - 1) {
        ssize_t n = recv(fd, text + used, sizeof text - 1 - used, 0);
        if (n <= 0)
            return false;
        used += (size_t)n;
        text[used] = '\0';
        if (used > 4 && strcmp(text + used - 4, "\r\n\r\n") == 0)
            break;
    }
    pthread_mutex_lock(&server.lock);
    memcpy(server.request, text, sizeof text);
    pthread_mutex_unlock(&server.lock);
    return sscanf(text, "GET %99s HTTP/1.1", path) == 1;
}

static void *connection_main(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char path[100];

    for (int nth = 1; read_request(fd, path); nth++) {
        atomic_fetch_add(&server.requests, 1);
        if (!serve(fd, path, nth))
            break;
    }
    close(fd);
    atomic_fetch_sub(&server.open, 1);
    return NULL;
}

static void *server_main(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = accept(server.fd, NULL, NULL)) >= 0 || errno == EMFILE) {
        pthread_t thread;
        if (fd < 0) {
            sleep_ms(5);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        atomic_fetch_add(&server.open, 1);
        atomic_fetch_add(&server.accepted, 1);
        pthread_create(&thread, NULL, connection_main, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
    return NULL;
}

/* A socket at *port of the loopback, or at any where that is 0: then tells it. */
static int bind_to(uint16_t *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    addr.sin_port = htons(*port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    CHECK(bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    getsockname(fd, (struct sockaddr *)&addr, &len);
    *port = ntohs(addr.sin_port);
    return fd;
}

static void server_start(void)
{
    server.fd = bind_to(&server.port);
    listen(server.fd, 1024);
    pthread_t clock;
    pthread_create(&clock, NULL, late_main, NULL);
    pthread_detach(clock);
    pthread_create(&server.thread, NULL, server_main, NULL);
}

static void server_stop(void)
{
    atomic_store(&server.stopping, true);
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    close(server.fd);
    CHECK(eventually(nobody_is_served, NULL));
}

#endif
