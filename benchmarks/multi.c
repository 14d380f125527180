/*
 * multi.c - the least that a sweep over many servers can cost with libcurl:
 * one multi handle over epoll, an easy handle and a kept connection for each
 * target, bodies thrown away. Built and called by fleet.py.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct multi {
    CURLM *curl;
    CURL **easy;
    int n;
    int epoll;
    long timeout_ms;
} multi;

static size_t throw_away(char *data, size_t size, size_t n, void *unused)
{
    (void)data;
    (void)unused;
    return size * n;
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
    multi *m = user;
    struct epoll_event event = {.data.fd = fd};

    (void)easy;
    if (what == CURL_POLL_REMOVE)
        return epoll_ctl(m->epoll, EPOLL_CTL_DEL, fd, NULL) && 0;
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (epoll_ctl(m->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event))
        epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &event);
    curl_multi_assign(m->curl, fd, m);
    return 0;
}

static int set_timer(CURLM *curl, long timeout_ms, void *user)
{
    (void)curl;
    ((multi *)user)->timeout_ms = timeout_ms;
    return 0;
}

/* NULL where anything fails: a benchmark has no use for less. */
multi *multi_new(int n, int port)
{
    multi *m = calloc(1, sizeof *m);
    char url[64];

    if (!m || curl_global_init(CURL_GLOBAL_DEFAULT) || !(m->curl = curl_multi_init()) ||
        !(m->easy = calloc((size_t)n, sizeof *m->easy)) || (m->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return NULL;
    m->n = n;
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, (long)n);
    for (int i = 0; i < n; i++) {
        if (!(m->easy[i] = curl_easy_init()))
            return NULL;
        snprintf(url, sizeof url, "http://127.0.0.1:%d/%d", port, i);
        curl_easy_setopt(m->easy[i], CURLOPT_URL, url);
        curl_easy_setopt(m->easy[i], CURLOPT_WRITEFUNCTION, throw_away);
        curl_easy_setopt(m->easy[i], CURLOPT_NOSIGNAL, 1L);
    }
    return m;
}

void multi_free(multi *m)
{
    for (int i = 0; i < m->n; i++)
        curl_easy_cleanup(m->easy[i]);
    curl_multi_cleanup(m->curl);
    close(m->epoll);
    free(m->easy);
    free(m);
}

/* Takes finished transfers out; how many of them failed. */
static int take_finished(multi *m)
{
    CURLMsg *message;
    int left, failed = 0;

    while ((message = curl_multi_info_read(m->curl, &left))) {
        long status = 0;
        curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
        failed += message->data.result != CURLE_OK || status != 200;
        curl_multi_remove_handle(m->curl, message->easy_handle);
    }
    return failed;
}

/* A timer fires once: libcurl says when it wants another, and not that it wants none. */
static void timer_fired(multi *m, int *running)
{
    m->timeout_ms = -1;
    curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, running);
}

/* Fetches every target once; how many of them failed. */
int multi_sweep(multi *m)
{
    struct epoll_event events[256];
    int running = m->n, failed = 0;

    for (int i = 0; i < m->n; i++)
        curl_multi_add_handle(m->curl, m->easy[i]);
    timer_fired(m, &running);
    while (running) {
        int n = epoll_wait(m->epoll, events, 256, (int)m->timeout_ms);
        for (int i = 0; i < n; i++) {
            int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                       (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                       (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
            curl_multi_socket_action(m->curl, events[i].data.fd, what, &running);
        }
        if (n <= 0)
            timer_fired(m, &running);
        failed += take_finished(m);
    }
    return failed + take_finished(m);
}
