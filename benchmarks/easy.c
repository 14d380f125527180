/*
 * easy.c - the least that fetches one after another can cost with libcurl: an
 * easy handle and its kept connection for each target, bodies thrown away.
 * Built and called by compare.py.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct fetches {
    CURL **easy;
    int n;
} fetches;

static size_t throw_away(char *data, size_t size, size_t n, void *unused)
{
    (void)data;
    (void)unused;
    return size * n;
}

/* NULL where anything fails: a benchmark has no use for less. */
fetches *easy_new(int n, int port)
{
    fetches *all = calloc(1, sizeof *all);
    char url[64];

    if (!all || curl_global_init(CURL_GLOBAL_DEFAULT) || !(all->easy = calloc((size_t)n, sizeof *all->easy)))
        return NULL;
    all->n = n;
    for (int i = 0; i < n; i++) {
        if (!(all->easy[i] = curl_easy_init()))
            return NULL;
        snprintf(url, sizeof url, "http://127.0.0.1:%d/%d", port, i);
        curl_easy_setopt(all->easy[i], CURLOPT_URL, url);
        curl_easy_setopt(all->easy[i], CURLOPT_WRITEFUNCTION, throw_away);
        curl_easy_setopt(all->easy[i], CURLOPT_NOSIGNAL, 1L);
    }
    return all;
}

/* From now on every fetch opens a connection and closes it. */
void easy_anew(fetches *all)
{
    for (int i = 0; i < all->n; i++)
        curl_easy_setopt(all->easy[i], CURLOPT_FORBID_REUSE, 1L);
}

void easy_free(fetches *all)
{
    for (int i = 0; i < all->n; i++)
        curl_easy_cleanup(all->easy[i]);
    free(all->easy);
    free(all);
}

/* Fetches every target once; how many of them failed. */
int easy_sweep(fetches *all)
{
    int failed = 0;

    for (int i = 0; i < all->n; i++) {
        long status = 0;
        CURLcode code = curl_easy_perform(all->easy[i]);
        curl_easy_getinfo(all->easy[i], CURLINFO_RESPONSE_CODE, &status);
        failed += code != CURLE_OK || status != 200;
    }
    return failed;
}
