/*
 * sgc.h - the parsing side of the core: expositions in, numbers out.
 *
 * An exposition (the text a Prometheus target answers with) becomes either a
 * page, which keeps every sample, or a fold, which keeps the few numbers that a
 * plan asks for. The core knows the two grammars and PromQL's ways of combining
 * series; it knows nothing of any engine, of Python or of the network.
 *
 * Conventions, unless a function says otherwise:
 *  - Fallible functions return sgc_status. On failure every output is left
 *    NULL or zero, and *err (which may be NULL) says what happened.
 *  - Text is never NUL-terminated: it is a pointer and a length (sgc_str).
 *    A view handed out lives as long as the object it came from.
 *  - *_free accepts NULL.
 *  - Objects are immutable once made, and may be read from any thread at once.
 *    Plans are counted (retain, free), everything else has one owner.
 */
#ifndef SGC_H
#define SGC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- status */

/* X(name, text): the one list of what a core function can answer. */
#define SGC_STATUS_LIST(X)            \
    X(OK, "ok")                       \
    X(NOMEM, "out of memory")         \
    X(SYNTAX, "malformed exposition") \
    X(LIMIT, "limit exceeded")        \
    X(ARGUMENT, "invalid argument")   \
    X(BUSY, "driven by another thread")

typedef enum {
#define SGC_STATUS_ENUM(name, text) SGC_##name,
    SGC_STATUS_LIST(SGC_STATUS_ENUM)
#undef SGC_STATUS_ENUM
} sgc_status;

/* The text of a status; a constant, never NULL. */
const char *sgc_status_text(sgc_status status);

/* X(field, default): ceilings of a read. A page that reaches past one is
 * refused with SGC_LIMIT; nothing is ever cut silently. */
#define SGC_LIMIT_LIST(X)        \
    X(body_bytes, 16u << 20)     \
    X(samples, 1000000)          \
    X(labels_per_sample, 128)    \
    X(name_length, 1024)         \
    X(label_value_length, 65536) \
    X(number_length, 1024)

typedef struct sgc_limits {
#define SGC_LIMIT_FIELD(name, dflt) uint64_t name;
    SGC_LIMIT_LIST(SGC_LIMIT_FIELD)
#undef SGC_LIMIT_FIELD
} sgc_limits;

/* The defaults of SGC_LIMIT_LIST. */
void sgc_limits_init(sgc_limits *limits);

enum { SGC_EXCERPT_SIZE = 81 };

/* What went wrong. `reason` and `limit` are constant strings of the core. */
typedef struct sgc_error {
    sgc_status code;
    const char *reason;             /* one line, no full stop: "expected a value" */
    uint64_t line;                  /* SYNTAX, LIMIT: 1-based; 0 where no place applies */
    uint64_t column;                /* 1-based, in bytes, of the first offending byte */
    const char *limit;              /* LIMIT: the field of sgc_limits, else NULL */
    uint64_t allowed;               /* LIMIT: its value */
    char excerpt[SGC_EXCERPT_SIZE]; /* printable ASCII, NUL-terminated: the
                                       line from the offending byte on, other
                                       bytes as \xNN */
} sgc_error;

/* ------------------------------------------------------------- allocator */

/* Where the core's memory comes from. Set once, before anything else is
 * called and while one thread runs; the default is malloc, realloc and free.
 * `resize` behaves like realloc with a size above 0. */
typedef struct sgc_allocator {
    void *(*alloc)(void *ctx, size_t size);
    void *(*resize)(void *ctx, void *ptr, size_t size);
    void (*release)(void *ctx, void *ptr);
    void *ctx;
} sgc_allocator;

void sgc_allocator_set(const sgc_allocator *allocator); /* NULL: the default */

/* ------------------------------------------------------------------ text */

typedef struct sgc_str {
    const char *ptr;
    size_t len;
} sgc_str;

/* A label as it stands on the page. Its value may hold the escapes \\ \" \n:
 * `escaped` tells, and sgc_unescape resolves. The name is plain. */
typedef struct sgc_label {
    sgc_str name;
    sgc_str value;
    bool escaped;
} sgc_label;

/* Writes `raw` with its escapes resolved into `out`, which holds at least
 * raw.len bytes, and returns the length written. An unknown escape stays as
 * its two bytes. */
size_t sgc_unescape(sgc_str raw, char *out);

/* The same for HELP text. Text 0.0.4 knows no \" there, OpenMetrics does:
 * where `quotes` is false a \" stays as it is. */
size_t sgc_unescape_help(sgc_str raw, bool quotes, char *out);

/* ------------------------------------------------------------------ page */

typedef enum {
    SGC_FORMAT_TEXT,        /* Prometheus text 0.0.4 */
    SGC_FORMAT_OPENMETRICS, /* OpenMetrics text 1.0 */
    SGC_FORMAT_AUTO,        /* OpenMetrics where the last line is "# EOF" */
} sgc_format;

/* X(name, text): the types a TYPE line can give; UNKNOWN where none did. */
#define SGC_TYPE_LIST(X)                \
    X(UNKNOWN, "unknown")               \
    X(GAUGE, "gauge")                   \
    X(COUNTER, "counter")               \
    X(STATESET, "stateset")             \
    X(INFO, "info")                     \
    X(HISTOGRAM, "histogram")           \
    X(GAUGEHISTOGRAM, "gaugehistogram") \
    X(SUMMARY, "summary")

typedef enum {
#define SGC_TYPE_ENUM(name, text) SGC_TYPE_##name,
    SGC_TYPE_LIST(SGC_TYPE_ENUM)
#undef SGC_TYPE_ENUM
} sgc_type;

const char *sgc_type_text(sgc_type type);

typedef struct sgc_options {
    sgc_format format;
    bool strict; /* OpenMetrics: every MUST of the specification; text: none */
    sgc_limits limits;
} sgc_options;

/* Text 0.0.4, lenient, default limits. */
void sgc_options_init(sgc_options *options);

/* One exposition, parsed and checked whole. Views point into the input bytes,
 * which the caller keeps alive and unchanged for as long as the page. */
typedef struct sgc_page sgc_page;

typedef struct sgc_sample {
    sgc_str name; /* as written, suffix included; escapes resolved */
    double value;
    double timestamp; /* seconds; NaN where there is none */
    uint32_t family;  /* index of its family */
    uint32_t n_labels;
    bool exemplar; /* sgc_page_exemplar has one */
} sgc_sample;

typedef struct sgc_exemplar {
    double value;
    double timestamp; /* seconds; NaN where there is none */
    uint32_t n_labels;
} sgc_exemplar;

typedef struct sgc_family {
    sgc_str name;
    sgc_type type;
    sgc_str help; /* as written: sgc_unescape_help resolves its escapes */
    sgc_str unit;
    size_t n_samples;
    size_t first; /* index of its first and last sample; the ones between */
    size_t last;  /* are all its own where last - first + 1 == n_samples */
} sgc_family;

sgc_status sgc_page_parse(const char *data, size_t len, const sgc_options *options, sgc_page **page,
                          sgc_error *err);
void sgc_page_free(sgc_page *page);

size_t sgc_page_n_samples(const sgc_page *page);
size_t sgc_page_n_families(const sgc_page *page);
sgc_format sgc_page_format(const sgc_page *page); /* never AUTO */

/* `index` is below the matching count; nothing here can fail. */
void sgc_page_sample(const sgc_page *page, size_t index, sgc_sample *out);
void sgc_page_family(const sgc_page *page, size_t index, sgc_family *out);

/* Writes the labels of a sample in page order; `out` holds n_labels. */
void sgc_page_labels(const sgc_page *page, size_t index, sgc_label *out);

/* The same for a sample whose labels are, as a rule, those of another one but for
 * a few values: `labels` holds those of sample `from` and becomes those of sample
 * `to`; changed[i] says whether the text of the i-th value is another. False where
 * the two differ in more than values: `labels` and `changed` then hold anything. */
bool sgc_page_labels_step(const sgc_page *page, size_t from, size_t to, sgc_label *labels, bool *changed);

/* The value of the first sample; the next stand *stride bytes apart. NULL where
 * the page has no sample. */
const double *sgc_page_values(const sgc_page *page, size_t *stride);

/* Name and labels of a sample in the page's own bytes, which say nothing else:
 * equal text is an equal series. Empty where a name has escapes, or a quoted one
 * stands behind a label. */
sgc_str sgc_page_series(const sgc_page *page, size_t index);

#define SGC_NO_SAMPLE UINT32_MAX

/* Finds the series of a page on another one, an earlier one of the same target:
 * out[i] becomes the index of a sample of `other` whose series has the text of
 * sample i, or SGC_NO_SAMPLE. `out` holds n_samples. Fastest where the order is
 * the same, linear whatever it is. Fails with NOMEM alone. */
sgc_status sgc_page_align(const sgc_page *page, const sgc_page *other, uint32_t *out, sgc_error *err);

/* The exemplar of a sample and its labels; false where it has none. */
bool sgc_page_exemplar(const sgc_page *page, size_t index, sgc_exemplar *out);
void sgc_page_exemplar_labels(const sgc_page *page, size_t index, sgc_label *out);

/* Index of the family of that name, or SIZE_MAX. Constant time. */
size_t sgc_page_find(const sgc_page *page, sgc_str name);

/* Counts the samples of that name (suffix included) whose labels equal all the
 * given ones; an empty value equals an absent label. *first is the index of the
 * first, where the count is above 0. Linear in the page. The values given are
 * plain text, whatever `escaped` says. */
size_t sgc_page_match(const sgc_page *page, sgc_str name, const sgc_label *labels, size_t n_labels,
                      size_t *first);

/* ------------------------------------------------------------- histogram */

/* A histogram of cumulative buckets: counts[i] observations were <= bounds[i].
 * Bounds rise strictly and end with +Inf. `sum` is NaN where the page gave
 * none. A summary without buckets is one with the +Inf bucket alone. */
typedef struct sgc_hist {
    size_t n;
    double *bounds;
    double *counts;
    double sum;
    double count;
} sgc_hist;

/* Makes a histogram that owns copies of its n >= 1 buckets. ARGUMENT where
 * bounds do not rise to +Inf, or counts fall, are negative or NaN. */
sgc_status sgc_hist_init(sgc_hist *hist, const double *bounds, const double *counts, size_t n, double sum,
                         sgc_error *err);
void sgc_hist_free(sgc_hist *hist); /* its arrays; `hist` becomes all zero */

/* out = a + b over the bounds that both have (+Inf always among them). */
sgc_status sgc_hist_add(sgc_hist *out, const sgc_hist *a, const sgc_hist *b, sgc_error *err);

/* out = later - earlier over common bounds. Where any count fell, `later` began
 * again from zero in between: out is `later` itself and *restarted is true. */
sgc_status sgc_hist_sub(sgc_hist *out, const sgc_hist *later, const sgc_hist *earlier, bool *restarted,
                        sgc_error *err);

/* sum / count; NaN where the histogram is empty or has no sum. */
double sgc_hist_mean(const sgc_hist *hist);

/* PromQL's histogram_quantile for 0 <= q <= 1: linear inside a bucket, from 0
 * in the first where its bound is positive; the last finite bound where the
 * quantile falls into +Inf; NaN where the histogram is empty. *bucket (may be
 * NULL) becomes the index of the bucket it fell into. */
double sgc_hist_quantile(const sgc_hist *hist, double q, size_t *bucket);

/* ------------------------------------------------------------------ plan */

/* A plan says which families are wanted and how their series become one
 * number. It is made of extracts; folding a page fills one slot an extract. */
typedef struct sgc_plan sgc_plan;

typedef enum {
    SGC_KIND_VALUE,     /* samples of this name, outside histograms and summaries */
    SGC_KIND_HISTOGRAM, /* the family of this name, where TYPE says histogram or summary */
    SGC_KIND_LABEL,     /* a map: values of the label `by` over every series of the
                           plan's prefixes, each with its number of samples */
} sgc_kind;

typedef enum { SGC_REDUCE_SUM, SGC_REDUCE_MAX, SGC_REDUCE_MEAN } sgc_reduce;
typedef enum { SGC_OP_IS, SGC_OP_STARTS, SGC_OP_ENDS } sgc_op;

/* True where the label's value is, starts with or ends with one of `values`
 * (the reverse where `negate`). An absent label has the value "". */
typedef struct sgc_cond {
    sgc_str label;
    sgc_op op;
    bool negate;
    const sgc_str *values;
    size_t n_values;
} sgc_cond;

/* One wanted number. Its series are those of the first of `names` (tried under
 * each of the plan's prefixes, in order) that the page has. Of those that pass
 * every condition of `where`, the ones that differ only in the labels `without`
 * repeat one measurement: the one with the lowest `lowest` labels (compared as
 * numbers in the order given, an absent one as 0; the first on the page where
 * they tie) stands. The rest become one by `reduce`; by each value of the label
 * `by`, where that is not empty. Histograms always add. Empty labels equal
 * absent ones throughout. */
typedef struct sgc_extract {
    sgc_kind kind;
    const sgc_str *names;
    size_t n_names;
    const sgc_cond *where;
    size_t n_where;
    const sgc_str *without;
    size_t n_without;
    const sgc_str *lowest;
    size_t n_lowest;
    sgc_str by;
    sgc_reduce reduce;
} sgc_extract;

/* A plan over these prefixes ("sglang:", "sglang_", ... or "" alone), with no
 * extract yet. Everything given is copied. */
sgc_status sgc_plan_new(const sgc_str *prefixes, size_t n_prefixes, sgc_plan **plan, sgc_error *err);

/* Adds the next extract; its slot is the number of extracts before it. Only
 * while one thread knows the plan. On failure the plan is as before. */
sgc_status sgc_plan_add(sgc_plan *plan, const sgc_extract *extract, sgc_error *err);

size_t sgc_plan_n_extracts(const sgc_plan *plan);
sgc_plan *sgc_plan_retain(sgc_plan *plan); /* thread-safe */
void sgc_plan_free(sgc_plan *plan);        /* drops one count; thread-safe */

typedef enum { SGC_SLOT_ABSENT, SGC_SLOT_VALUE, SGC_SLOT_HIST, SGC_SLOT_MAP } sgc_slot_kind;

typedef struct sgc_entry {
    sgc_str key; /* value of the `by` label; "" for series without it */
    double value;
    const sgc_hist *hist; /* NULL in a map of values */
} sgc_entry;

typedef struct sgc_slot {
    sgc_slot_kind kind;
    double value;             /* VALUE */
    const sgc_hist *hist;     /* HIST */
    const sgc_entry *entries; /* MAP: in order of first appearance */
    size_t n_entries;
    size_t n_series;    /* series that were combined, repeats excluded */
    const char *reason; /* why it, or an entry of it, is absent though series were there:
                           "bucket counts fall", ...; else NULL */
    bool bounds_differ; /* histograms of different bounds were merged */
} sgc_slot;

/* What a plan found on one page. Depends on no other object. */
typedef struct sgc_fold sgc_fold;

/* Reads the page with every check that sgc_page_parse makes, and fills the
 * slots. A NaN among the combined values makes its slot (or entry) absent. */
sgc_status sgc_plan_fold(const sgc_plan *plan, const char *data, size_t len, const sgc_options *options,
                         sgc_fold **fold, sgc_error *err);
void sgc_fold_free(sgc_fold *fold);

/* What a target's page has taught a plan: the next page of that target has, as
 * a rule, the same lines with other values, and only those are then read. Gives
 * exactly the fold and the error of sgc_plan_fold, whatever the page; holds a
 * copy of one page. Used by one thread at a time. */
typedef struct sgc_steady sgc_steady;

sgc_status sgc_steady_new(sgc_plan *plan, sgc_steady **steady, sgc_error *err); /* retains the plan */
void sgc_steady_free(sgc_steady *steady);
sgc_status sgc_steady_fold(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                           sgc_fold **fold, sgc_error *err);
/* The same where the page has known lines; else *fold stays NULL, and nothing is
 * learned. */
sgc_status sgc_steady_try(sgc_steady *steady, const char *data, size_t len, const sgc_options *options,
                          sgc_fold **fold, sgc_error *err);
/* Folds a page and learns it, with the help of what another, or the same, has
 * learned of a page for the same plan, NULL where there is none: lines that both
 * pages have are not read again. */
sgc_status sgc_steady_learn(sgc_steady *steady, const sgc_steady *older, const char *data, size_t len,
                            const sgc_options *options, sgc_fold **fold, sgc_error *err);
/* How many samples of the last page were on known lines. */
uint64_t sgc_steady_n_known(const sgc_steady *steady);
/* Whether the last page was one of known lines; and the plan it was made for. */
bool sgc_steady_hit(const sgc_steady *steady);
const sgc_plan *sgc_steady_plan(const sgc_steady *steady);

size_t sgc_fold_n_slots(const sgc_fold *fold);
const sgc_slot *sgc_fold_slot(const sgc_fold *fold, size_t index);
uint64_t sgc_fold_n_samples(const sgc_fold *fold); /* on the whole page */

/* --------------------------------------------------------------- formula */

/* A number made of slots of a fold: steps, each of which leaves one number for
 * those after it, which take the last ones. A number may be absent.
 *
 * X(name, word, takes): what a step leaves. */
#define SGC_STEP_LIST(X)                                                                               \
    X(NUMBER, "number", SLOT)           /* the value of a slot */                                      \
    X(COUNT, "count", SLOT)             /* of a histogram: observations */                             \
    X(MEAN, "mean", SLOT)               /* of a histogram; absent where it is empty or has no sum */   \
    X(SEEN, "seen", SLOT)               /* 1 where the page has a series of it, else 0 */              \
    X(NAMED, "named", SLOT)             /* of a map: 1 where it has a key that is not empty, else 0 */ \
    X(TOTAL, "total", TEXT)             /* of a map: the sum of entries whose key ends so */           \
    X(ENTRY, "entry", TEXT)             /* of a map: the entry with that key, 0 where there is none */ \
    X(LARGEST_KEY, "largest key", SLOT) /* of a map: of the keys that are numbers of 9 digits */       \
    X(CONSTANT, "constant", NUMBER)     /* itself */                                                   \
    X(NOTHING, "nothing", NONE)         /* absent */                                                   \
    X(FIRST, "first", COUNT)            /* of n: the first that is there */                            \
    X(PLUS, "plus", COUNT)              /* the sum of n; absent where one is */                        \
    X(SUM, "sum", COUNT)                /* the sum of those of n that are there */                     \
    X(RATIO, "ratio", NONE)             /* a / b; absent where one is, and where b is 0 */             \
    X(TIMES, "times", NONE)             /* a * b; absent where one is */                               \
    X(CHOOSE, "choose", NONE)           /* b where a is there and not 0, else c */

typedef enum {
#define SGC_STEP_ENUM(name, word, takes) SGC_STEP_##name,
    SGC_STEP_LIST(SGC_STEP_ENUM)
#undef SGC_STEP_ENUM
} sgc_step_kind;

/* What a step is given beside numbers: nothing, a slot, a slot and a text, a
 * constant, how many numbers it takes. */
typedef enum { SGC_TAKES_NONE, SGC_TAKES_SLOT, SGC_TAKES_TEXT, SGC_TAKES_NUMBER, SGC_TAKES_COUNT } sgc_takes;

typedef struct sgc_step {
    sgc_step_kind kind;
    size_t slot;
    sgc_str text;
    double number;
    size_t n;
} sgc_step;

const char *const *sgc_step_words(void); /* by kind, ends with NULL */
sgc_takes sgc_step_takes(sgc_step_kind kind);

typedef struct sgc_number {
    bool there;
    double value; /* 0 where it is absent */
} sgc_number;

typedef struct sgc_formula sgc_formula;

/* Copies the steps. ARGUMENT where one finds too few numbers before it, more
 * than 16 wait, or not one is left at the end. */
sgc_status sgc_formula_new(const sgc_step *steps, size_t n, sgc_formula **formula, sgc_error *err);
void sgc_formula_free(sgc_formula *formula);

/* The number; a slot that the fold does not have is an absent one. Additions are
 * made in the order of the steps, in that of the page inside a map. */
sgc_number sgc_formula_value(const sgc_formula *formula, const sgc_fold *fold);

/* ------------------------------------------------------------------ JSON */

enum { SGC_JSON_NUMBER = 32 }; /* bytes that a number has at most */

/* Each writes a JSON value and returns its length; no NUL follows. */
size_t sgc_json_number(double value, char *out); /* finite; the shortest that is read as the same */
size_t sgc_json_integer(int64_t value, char *out);
/* In quotes; `out` has room for 6 * len + 2 bytes. What is not ASCII stays as it is. */
size_t sgc_json_text(sgc_str text, char *out);

#ifdef __cplusplus
}
#endif
#endif
