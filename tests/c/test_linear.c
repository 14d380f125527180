/*
 * Reading takes time in proportion to the page, and memory of at most twelve
 * times its size, whatever the page is made of.
 *
 *   test_linear                from 1 to 4 MiB, in some seconds
 *   test_linear long [NAME]    from 4 to 64 MiB, in minutes; all figures
 *   test_linear list           the pages, and the modes that they are read in
 *   test_linear once NAME MODE BYTES    for tools/instructions.sh, which counts instead of measuring time
 *
 * Time is that of the process alone, and of some runs the shortest: what else
 * the machine does only ever adds to it.
 */
#define _POSIX_C_SOURCE 200809L

#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdint.h>
#include <time.h>

#include "check.h"
#include "sgc.h"

/* ----------------------------------------------------------------- memory */

enum { HEAD = 16 };

/* Twice the page may take that many times as long. Where every line is looked up
 * by its labels, tables that grow out of a cache grow slower than that, and far
 * from four times as slow; so do all in a short run, which other programs disturb. */
static const double RATIO = 2.2, LOOSE_RATIO = 2.7;
static const double PATIENCE = 20.0, GRAIN = 0.0002; /* seconds */

static size_t held, peak;

static void held_change(size_t more, size_t less)
{
    held += more - less;
    peak = held > peak ? held : peak;
}

static void *count_alloc(void *ctx, size_t size)
{
    char *block = malloc(size + HEAD);

    (void)ctx;
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof size);
    held_change(size, 0);
    return block + HEAD;
}

/* Large blocks are moved by the kernel, page by page: never two of them at once. */
static void *count_resize(void *ctx, void *ptr, size_t size)
{
    size_t before;
    char *block;

    (void)ctx;
    memcpy(&before, (char *)ptr - HEAD, sizeof before);
    block = realloc((char *)ptr - HEAD, size + HEAD);
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof size);
    held_change(size, before);
    return block + HEAD;
}

static void count_release(void *ctx, void *ptr)
{
    size_t size;

    (void)ctx;
    memcpy(&size, (char *)ptr - HEAD, sizeof size);
    held_change(0, size);
    free((char *)ptr - HEAD);
}

/* ------------------------------------------------------------------ pages */

typedef struct {
    char *text;
    size_t len;
    size_t room;
} page;

static void put(page *p, const char *text)
{
    size_t n = strlen(text);

    memcpy(p->text + p->len, text, n);
    p->len += n;
}

static void put_number(page *p, size_t n)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%zu", n);
    put(p, digits);
}

/* Fills the page up to its room with head, then `unit` again and again, each %
 * a number that rises, then tail. */
static void fill(page *p, const char *head, const char *unit, const char *tail)
{
    size_t end = p->room - strlen(tail) - 256;

    put(p, head);
    for (size_t n = 0; p->len < end; n++)
        for (const char *c = unit; *c; c++) {
            if (*c == '%')
                put_number(p, n);
            else
                p->text[p->len++] = *c;
        }
    put(p, tail);
}

/* One half of `unit`, one of `other`. */
static void fill_halves(page *p, const char *head, const char *unit, const char *middle, const char *other)
{
    size_t room = p->room;

    p->room = room / 2;
    fill(p, head, unit, middle);
    p->room = room;
    fill(p, "", other, "");
}

/* Samples with as many labels as the default limit allows. */
static void labels_fill(page *p, bool rising)
{
    char label[32];

    while (p->len + 128 * sizeof label < p->room) {
        put(p, "a{");
        for (unsigned i = 0; i < 127; i++) {
            snprintf(label, sizeof label, "l%03u=\"\",", rising ? i : 127 - i);
            put(p, label);
        }
        snprintf(label, sizeof label, "%c=\"%zu\"} 1\n", rising ? 'z' : 'a', p->len);
        put(p, label);
    }
}

static void labels(page *p)
{
    labels_fill(p, true);
}

static void labels_reversed(page *p)
{
    labels_fill(p, false);
}

static void equal_labels(page *p)
{
    fill(p, "a{", "l=\"\",", "z=\"\"} 1\n");
}

static void samples_of_labels(page *p)
{
    fill(p, "", "a{z=\"%\",y=\"1\",x=\"2\",w=\"3\",v=\"4\",u=\"5\"} %\n", "");
}

static void tiny_samples(page *p)
{
    fill(p, "", "a 1\n", "");
}

static void long_name(page *p)
{
    fill(p, "", "a_b_", " 1\n");
}

static void names(page *p)
{
    fill(p, "", "a_%_b_c_d_count 1\n", "");
}

static void digits(page *p)
{
    fill(p, "a ", "9", "\n");
}

static void zeros(page *p)
{
    fill(p, "a 0.", "0", "1\n");
}

static void halfway_numbers(page *p)
{
    fill(p, "",
         "a "
         "9007199254740993.00000000000000000000000000000000000000000000000000000000000000000000000000001e-"
         "340\n",
         "");
}

static void long_escapes(page *p)
{
    fill(p, "a{x=\"", "\\\\\\\"\\n", "\"} 1\n");
}

static void escapes(page *p)
{
    fill(p, "", "a{x=\"\\\\%\\\"\\n\"} 1\n", "");
}

static void help(page *p)
{
    fill(p, "", "# HELP a_% \\\\ \\n text\n", "");
}

static void long_help(page *p)
{
    fill(p, "# HELP a ", "\\\\\\n", "\n");
}

static void families(page *p)
{
    fill(p, "", "# TYPE f% gauge\nf% 1\n", "");
}

static void short_families(page *p)
{
    fill(p, "", "f% 1\n", "");
}

static void quoted_families(page *p)
{
    fill(p, "", "{\"f\\\\%\",\"l\\\\\"=\"1\"} 1\n", "");
}

static void families_behind_a_large_one(page *p)
{
    fill_halves(p, "# TYPE a gauge\n", "a{x=\"%\"} 1\n", "", "# TYPE f% gauge\nf% 1\n");
}

static void buckets(page *p)
{
    fill(p, "# TYPE a histogram\n", "a_bucket{le=\"%\"} 1\n", "a_bucket{le=\"+Inf\"} 1\n");
}

static void buckets_reversed(page *p)
{
    char line[64];
    size_t n = p->room / 27;

    put(p, "# TYPE a histogram\n");
    while (p->len + 64 < p->room && n) {
        snprintf(line, sizeof line, "a_bucket{le=\"%08zu\"} 1\n", n--);
        put(p, line);
    }
}

static void histograms(page *p)
{
    fill(p, "# TYPE a histogram\n", "a_bucket{x=\"%\",le=\"1\"} 1\na_bucket{x=\"%\",le=\"+Inf\"} 1\n", "");
}

static void histograms_behind_a_large_one(page *p)
{
    fill_halves(p, "# TYPE a histogram\n", "a_bucket{le=\"%\"} 1\n", "a_bucket{le=\"+Inf\"} 1\n",
                "a_bucket{x=\"%\",le=\"+Inf\"} 1\n");
}

static void repeated_types(page *p)
{
    fill(p, "", "# TYPE a gauge\n", "");
}

static void types_between_samples(page *p)
{
    fill(p, "", "# TYPE a_% gauge\na_% 1\n# TYPE b gauge\nb{x=\"%\"} 1\n", "");
}

static void blank_lines(page *p)
{
    fill(p, "", "\n", "");
}

static void blanks(page *p)
{
    fill(p, "", " \t", "a 1\n");
}

static void comments(page *p)
{
    fill(p, "", "#\n# x\n", "");
}

static void long_comment(page *p)
{
    fill(p, "# ", "x\"{", "\n");
}

static void exemplars(page *p)
{
    fill(p, "# TYPE a counter\n", "a_total{x=\"%\"} 1 # {y=\"%\"} 1 2\n", "");
}

static void timestamps(page *p)
{
    fill(p, "# TYPE a gauge\n", "a 1 %\n", "");
}

static void utf8(page *p)
{
    fill(p, "", "a{x=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80%\"} 1\n", "");
}

static void long_utf8(page *p)
{
    fill(p, "a{x=\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"} 1\n");
}

typedef enum { TEXT, OPENMETRICS, STRICT, FOLD, MODES } mode;

static const char *const mode_names[] = {"text", "openmetrics", "strict", "fold"};

/* The modes that read a page of that kind to its end; in which of them it is
 * looked up by labels, or by names with escapes, here and there in memory. */
enum { T = 1 << TEXT, O = 1 << OPENMETRICS, S = 1 << STRICT, F = 1 << FOLD };

static const struct {
    void (*make)(page *p);
    const char *name;
    int modes;
    int scattered;
} makers[] = {
    {labels, "labels", T | F | S, 0},
    {labels_reversed, "labels_reversed", T | F | S, 0},
    {equal_labels, "equal_labels", T | F, 0},
    {samples_of_labels, "samples_of_labels", T | F | O | S, F | S},
    {tiny_samples, "tiny_samples", T | F, 0},
    {long_name, "long_name", T | F | S, 0},
    {names, "names", T | F | S, 0},
    {digits, "digits", T | F | S, 0},
    {zeros, "zeros", T | F, 0},
    {halfway_numbers, "halfway_numbers", T | F, 0},
    {long_escapes, "long_escapes", T | F | O | S, 0},
    {escapes, "escapes", T | F | S, F | S},
    {help, "help", T | F | S, 0},
    {long_help, "long_help", T | F, 0},
    {families, "families", T | F | O | S, 0},
    {short_families, "short_families", T | F | S, 0},
    {quoted_families, "quoted_families", T | F | O | S, T | F | O | S},
    {families_behind_a_large_one, "families_behind_a_large_one", T | F | S, F | S},
    {buckets, "buckets", T | F | S, S},
    {buckets_reversed, "buckets_reversed", T | F, F},
    {histograms, "histograms", T | F | S, F | S},
    {histograms_behind_a_large_one, "histograms_behind_a_large_one", T | F | S, F | S},
    {repeated_types, "repeated_types", T | F, 0},
    {types_between_samples, "types_between_samples", T | F, 0},
    {blank_lines, "blank_lines", T | F, 0},
    {blanks, "blanks", T | F, 0},
    {comments, "comments", T | F, 0},
    {long_comment, "long_comment", T | F, 0},
    {exemplars, "exemplars", O | S, S},
    {timestamps, "timestamps", T | F | O | S, 0},
    {utf8, "utf8", T | F | S, F | S},
    {long_utf8, "long_utf8", T | F, 0},
};

/* ---------------------------------------------------------------- reading */

static sgc_plan *plan;
static bool lengthy;
static double most_memory; /* in pages */

/* Nothing but the size of numbers in memory limits the page. */
static sgc_options options_of(mode m)
{
    sgc_options options;

    sgc_options_init(&options);
    options.format = m == TEXT || m == FOLD ? SGC_FORMAT_TEXT : SGC_FORMAT_OPENMETRICS;
    options.strict = m == STRICT;
    options.limits = (sgc_limits){UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    return options;
}

/* Seconds of this process. */
static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* Reads the page, whatever comes of it; returns the seconds. */
static double read_page(const page *p, mode m)
{
    sgc_options options = options_of(m);
    sgc_page *parsed = NULL;
    sgc_fold *fold = NULL;
    double start = now(), took;

    held = peak = 0;
    if (m == FOLD)
        sgc_plan_fold(plan, p->text, p->len, &options, &fold, NULL);
    else
        sgc_page_parse(p->text, p->len, &options, &parsed, NULL);
    took = now() - start;
    sgc_fold_free(fold);
    sgc_page_free(parsed);
    return took;
}

static bool page_make(page *p, size_t maker, size_t room, mode m)
{
    *p = (page){malloc(room), 0, room - 8};
    if (!p->text)
        return false;
    makers[maker].make(p);
    if (m == OPENMETRICS || m == STRICT)
        put(p, "# EOF\n");
    return true;
}

/* A fold keeps what each extract has gathered. */
static void memory_check(const page *p, size_t maker, mode m)
{
    size_t times = m == FOLD ? 12 * sgc_plan_n_extracts(plan) : 12;

    most_memory = (double)peak / (double)p->len;
    CHECK_MSG(peak <= times * p->len + 65536, "%s as %s: %zu bytes of memory for %zu", makers[maker].name,
              mode_names[m], peak, p->len);
}

enum { SIZES_MAX = 5 };

/* Reads pages of `room` bytes, `step` times that, and so on; of each the shortest
 * time counts. A growth that is too large is looked at again, for a while. */
static void time_check(size_t maker, mode m, size_t room, int n_sizes, double step)
{
    page pages[SIZES_MAX] = {{NULL, 0, 0}};
    double ratio = !lengthy || makers[maker].scattered & 1 << m ? LOOSE_RATIO : RATIO;
    double best[SIZES_MAX], spent = 0, worst = 0, allowed = pow(ratio, log2(step));

    for (int i = 0; i < n_sizes; i++) {
        CHECK(page_make(&pages[i], maker, room * (size_t)pow(step, i), m));
        best[i] = HUGE_VAL;
    }
    for (int run = 0; run < 2 || (worst > allowed && spent < PATIENCE); run++) {
        worst = 0;
        for (int i = 0; i < n_sizes; i++) {
            double took = read_page(&pages[i], m);
            memory_check(&pages[i], maker, m);
            best[i] = took < best[i] ? took : best[i];
            worst = i && best[i] / best[i - 1] > worst ? best[i] / best[i - 1] : worst;
            spent += took;
        }
        if (best[0] < GRAIN)
            break; /* refused at once */
    }
    worst = pow(worst, 1 / log2(step));
    CHECK_MSG(worst <= ratio || best[0] < GRAIN,
              "%s as %s: twice the page takes %.2f times as long; %zu bytes take %.4f s", makers[maker].name,
              mode_names[m], worst, pages[n_sizes - 1].len, best[n_sizes - 1]);
    if (lengthy)
        printf("%-32s %-12s %9.1f MB/s, %.2f times for twice the page, memory %.1f times the page\n",
               makers[maker].name, mode_names[m], (double)pages[n_sizes - 1].len / best[n_sizes - 1] / 1e6,
               worst, most_memory);
    for (int i = 0; i < n_sizes; i++)
        free(pages[i].text);
}

/* ------------------------------------------------------------------- main */

static bool plan_make(void)
{
    static const sgc_str none = {"", 0}, a = {"a", 1}, without = {"x", 1};
    static const sgc_extract extracts[] = {
        {.names = &a, .n_names = 1, .by = {"x", 1}},
        {.names = &a, .n_names = 1, .without = &without, .n_without = 1, .lowest = &without, .n_lowest = 1},
        {.kind = SGC_KIND_HISTOGRAM, .names = &a, .n_names = 1, .by = {"x", 1}},
        {.kind = SGC_KIND_HISTOGRAM, .names = &a, .n_names = 1, .without = &without, .n_without = 1},
        {.kind = SGC_KIND_LABEL, .by = {"x", 1}},
    };

    if (sgc_plan_new(&none, 1, &plan, NULL) != SGC_OK)
        return false;
    for (size_t i = 0; i < sizeof extracts / sizeof *extracts; i++)
        if (sgc_plan_add(plan, &extracts[i], NULL) != SGC_OK)
            return false;
    return true;
}

static void list_print(void)
{
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        for (mode m = TEXT; m < MODES; m++)
            if (makers[i].modes & 1 << m)
                printf("%s %s\n", makers[i].name, mode_names[m]);
}

/* Reads one page, once. */
static void once(const char *name, const char *mode_name, size_t bytes)
{
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        for (mode m = TEXT; m < MODES; m++) {
            page p;
            if (strcmp(makers[i].name, name) || strcmp(mode_names[m], mode_name))
                continue;
            CHECK(page_make(&p, i, bytes, m));
            read_page(&p, m);
            free(p.text);
        }
}

/* Sanitizers and valgrind take so long that smaller pages have to do. */
static size_t room_choose(void)
{
    page p;
    double took;

    if (!page_make(&p, 3, 1 << 18, TEXT))
        return 1 << 16;
    took = read_page(&p, TEXT);
    free(p.text);
    return took > 0.1 ? 1 << 14 : took > 0.01 ? 1 << 17 : 1 << 20;
}

int main(int argc, char **argv)
{
    static const sgc_allocator allocator = {count_alloc, count_resize, count_release, NULL};
    size_t room;

    if (argc > 1 && strcmp(argv[1], "list") == 0) {
        list_print();
        return 0;
    }
    lengthy = argc > 1 && strcmp(argv[1], "long") == 0;
    sgc_allocator_set(&allocator);
    CHECK(plan_make());
    if (argc == 5) {
        once(argv[2], argv[3], strtoull(argv[4], NULL, 10));
        sgc_plan_free(plan);
        return check_failed != 0;
    }
    room = lengthy ? 4 << 20 : room_choose();
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, INT_MAX); /* memory of one run serves the next: no page faults are measured */
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        for (mode m = TEXT; m < MODES; m++)
            if (makers[i].modes & 1 << m && (argc < 3 || strcmp(argv[2], makers[i].name) == 0))
                time_check(i, m, room, lengthy ? 5 : 2, lengthy ? 2 : 4);
    sgc_plan_free(plan);
    return check_done("test_linear");
}
