/*
 * fold.h - what a fold gathers while a page is read (fold.c) and how that
 * becomes slots (reduce.c). Private to those two.
 */
#ifndef SGC_FOLD_H
#define SGC_FOLD_H

#include "plan.h"

/* A number that stands for one set of labels: a measurement of which the lowest
 * rank is kept, or one entry of the answer. */
typedef struct {
    sgc_str key; /* what tells it apart */
    sgc_str by;  /* value of the `by` label */
    double lowest[SGC__LOWEST_MAX];
    double value;
    uint64_t line;  /* number of the sample whose value it is */
    sgc_str labels; /* of the first sample, as the page that is being read has them; or empty */
} measure;

typedef struct {
    double bound;
    double count;
} bucket;

/* A histogram series as its lines come in. */
typedef struct {
    sgc_str key;   /* all labels but le */
    sgc_str group; /* those that are not repeats */
    sgc_str by;
    double lowest[SGC__LOWEST_MAX];
    bucket *buckets; /* in page order */
    size_t n;
    size_t room;
    double sum;
    double count;
    bool has_count;
    bool bad_bound; /* a bucket whose le is no number */
} histogram;

/* Bounds as the page wrote them: the next series will have the same. */
typedef struct {
    struct bound_text {
        sgc_str text;
        double bound;
    } *list;
    size_t n;
    size_t room;
} bounds_seen;

/* Which labels of a sample its key is made of. */
typedef struct {
    const sgc_str *without; /* not these */
    size_t n_without;
    bool without_le;
    uint64_t labels; /* the others, as a set, in samples of the gather's layout; */
    bool in_order;   /* false: not known, or the labels stand otherwise than a key has them */
} key_rule;

/* What the answer has for one value of the `by` label. */
typedef struct {
    sgc_str key;
    double sum;
    double most;
    size_t n;
    size_t after; /* label extracts: the entry that came after this one the last time */
    sgc_hist hist;
} entry;

/* A growing array of one of these, found by their keys, which stand first in them. */
typedef struct table {
    sgc__arena *arena; /* of keys, and of the rows while they are few */
    size_t size;       /* of a row, bytes */
    void *list;
    bool on_heap;
    size_t n;
    size_t room;
    sgc__index index;         /* empty while the rows are few, or all of the lead's */
    const struct table *lead; /* the keys of all rows are those of its first; NULL: of no other's */
} table;

/* The keys of extracts that leave out the same labels. */
typedef struct {
    key_rule rule;
    uint64_t layout;  /* of the samples that `labels` and `in_order` are true of */
    const char *text; /* of the samples that have the key below */
    sgc_str made;     /* as a row has it; ptr NULL: none has it yet */
} row_key;

enum { SGC__PLACES = 4 };

/* What extracts that ask the same of labels make of a sample. What its label names
 * tell is true of a layout, what their values tell of samples of the same text. */
typedef struct {
    uint64_t layout;
    uint64_t decisive; /* labels that tell into which row a sample goes, or whether into any */
    key_rule group;    /* histograms: of those of which one stands */
    uint32_t le;       /* the place of le, or UINT32_MAX; and so on */
    uint32_t by;
    uint32_t lowest[SGC__LOWEST_MAX];
    uint32_t where[SGC__PLACES]; /* of the first conditions */
    const char *text;
    bool passes;
    const table *lead; /* measures that the last samples went into which came in an order of their own */
} rule;

typedef struct {
    uint32_t rank; /* of the name that counts so far */
    int part;      /* histograms: SGC__PART_BUCKET, _SUM, _COUNT or _NONE, of the last sample */
    table series;  /* histograms, or measures where `without` is used */
    table entries;
    size_t last;        /* where the last sample that was taken went: a row of series, or an entry */
    uint64_t last_at;   /* and its number on the page; 0: none */
    uint64_t counted;   /* label extracts: of the samples with a prefix those that their entries have got */
    bounds_seen bounds; /* of the series before, in page order */
    const char *reason; /* why the slot will be absent */
    bool bounds_differ;
} gather;

struct sgc_fold {
    sgc__arena arena;
    sgc_slot *slots;
    size_t n_slots;
    uint64_t n_samples;
};

enum { SGC__MOST_WATCHED = 16, SGC__WATCHES = 4 };

/* Where the labels of the label extracts stand in samples of a layout, and what
 * the last one of it was counted in. */
typedef struct {
    uint64_t layout;
    uint64_t labels;                    /* as a set */
    uint32_t places[SGC__MOST_WATCHED]; /* of the first extracts; UINT32_MAX: nowhere */
} watch;

/* What a sample did to a row of a gather. */
enum {
    SGC__PART_BUCKET = 0, /* and on: its value is that bucket's */
    SGC__PART_SUM = -1,
    SGC__PART_COUNT = -2,
    SGC__PART_ENTRY = -3, /* added to an entry */
    SGC__PART_BAD = -4,   /* a bucket whose le is no number */
    SGC__PART_LABEL = -5, /* counted in an entry of a label extract */
    SGC__PART_SHOWN = -6, /* shown to all label extracts: those that counted it follow */
    SGC__PART_NONE = -7,
    SGC__PART_MEASURE = -8, /* and below: a measure, with the ranks of that number in the log */
};

typedef struct {
    uint32_t line; /* number of the sample */
    uint32_t row;  /* of the gather's series, or of its entries */
    int32_t part;  /* as above */
    uint16_t gather;
    uint16_t rank; /* of the sample's name among the extract's */
} feed;

typedef double ranks[SGC__LOWEST_MAX];

/* Everything that the samples of a page did, in order: each line for itself, so
 * that the same can be done again where it stands on another page. */
typedef struct {
    feed *list;
    size_t n;
    size_t room;
    size_t n_likely; /* that a page mostly has */
    ranks *ranks;
    size_t n_ranks;
    size_t ranks_room;
    bool passed_over; /* an extract had no use for the last sample, because of what came before */
    bool spoiled;     /* what was logged is not what counts in the end */
} feed_log;

typedef struct {
    const sgc_plan *plan;
    sgc_fold *fold;
    gather *gathers;    /* one an extract */
    rule *rules;        /* as the plan numbers them */
    row_key *keys;      /* likewise */
    feed_log *log;      /* NULL: nobody asks */
    sgc__arena scratch; /* lives as long as the gathers */
    sgc__arena end;     /* what reduce.c needs, for one page */
    sgc__buf key;
    sgc_error *err;
    /* What is true of the last sample and of those that repeat it. */
    uint32_t family;
    uint32_t want;
    bool in_histogram;
    bool prefixed;
    uint64_t n_samples;
    watch watches[SGC__WATCHES]; /* the last layout's first */
    uint64_t watched;            /* labels of the last sample that label extracts look at */
    size_t shown;                /* where the log tells of the last time that they were shown one */
    uint64_t n_prefixed;         /* samples whose name has a prefix */
} folder;

/* A reading for this plan, with nothing gathered; false: no memory. */
bool sgc__folder_init(folder *f, const sgc_plan *plan);
/* The receiver of its samples. */
sgc_status sgc__folder_sample(void *self, const sgc__parser *parser, const sgc__sample *s);
/* Makes a fold of what was gathered, which stays as it is. NULL: no memory. */
sgc_fold *sgc__folder_finish(folder *f);
void sgc__folder_free(folder *f);

/* The steps of a sample on its way into a gather: here for refold.c. */
/* Does a name of that rank count? A better one than all before takes their place. */
bool sgc__rank_admits(folder *f, gather *g, uint32_t rank);
/* Notes in the log what the current sample did; false: no memory. */
bool sgc__feed_log(folder *f, const gather *g, size_t row, int64_t part);
/* The same where there is a log. */
static inline bool sgc__feed_note(folder *f, const gather *g, size_t row, int64_t part)
{
    return SGC_LIKELY(!f->log) || sgc__feed_log(f, g, row, part);
}
bool sgc__bucket_push(folder *f, histogram *h, size_t room, double bound, double count);
bool sgc__measure_feed(folder *f, gather *g, size_t row, const double *lowest, double value);
/* Notes that the label extracts are shown a sample. */
bool sgc__labels_show(folder *f);
/* From the next sample on a label extract counts for another entry, or SIZE_MAX for none:
 * its last one gets what has not been counted yet. */
void sgc__label_turn(const folder *f, gather *g, size_t next);

/* The row of that key; *fresh where it was made now, zeroed. The key is copied into the
 * arena, unless it is `kept` for as long. SIZE_MAX: no memory. */
size_t sgc__row_take(table *t, sgc_str key, bool kept, bool *fresh);
/* One more row, zeroed, of a table in which nothing is looked for. SIZE_MAX: no memory. */
size_t sgc__row_push(table *t, sgc_str key, bool kept);
sgc_str sgc__row_key(const void *table, size_t i);
/* One more row, which is the next of the lead's. SIZE_MAX: no memory. */
size_t sgc__row_follow(table *t);
/* A row of that key will be taken: begins to load where it will be looked for. */
void sgc__row_expect(const table *t, sgc_str key);
void sgc__table_clear(table *t);
void sgc__table_free(table *t);
void sgc__log_free(feed_log *log);

void sgc__entry_add(entry *e, double value);

/* Do rows of the extract have keys? Else they are told apart by the `by` label alone. */
bool sgc__has_keys(const sgc_extract *x);
key_rule sgc__keys_of(const sgc_extract *x);
/* Makes the rule one of samples of this one's layout and text. False: no memory. */
bool sgc__rule_apply(folder *f, uint32_t extract, const sgc__sample *s);
/* The value of the `by` label, "" where there is none; ptr NULL: no memory. */
sgc_str sgc__rule_by(folder *f, const rule *r, const sgc__sample *s);
/* The key of the sample, of a layout that the rule was applied to; ptr NULL: no memory. It
 * lasts until the next one is asked for, or where k->made has it, as long as the rows. */
sgc_str sgc__row_key_of(folder *f, row_key *k, const sgc__sample *s);
/* The row of that key, which then has it. SIZE_MAX: no memory. */
size_t sgc__row_of_key(row_key *k, table *t, sgc_str key, bool *fresh);

bool sgc__contains(const sgc_str *list, size_t n, sgc_str text);
/* The place of a label among the sample's, or UINT32_MAX; and as a set, empty for that. */
uint32_t sgc__label_find(const sgc__sample *s, sgc_str name);
static inline uint64_t sgc__place_bit(uint32_t place)
{
    return place == UINT32_MAX ? 0 : sgc__label_bit(place);
}
/* A label's value with escapes resolved, "" where there is none; ptr NULL: no memory. */
sgc_str sgc__plain_value(folder *f, const sgc_label *label);
/* Tells the rule where the labels stand in samples of this one's layout. */
void sgc__key_learn(key_rule *rule, const sgc__sample *s);
/* Builds the key of a sample in f->key, of the rule's labels that are not empty.
 * False: no memory. */
bool sgc__key_build(folder *f, const sgc__sample *s, const key_rule *rule);
/* Ranks to compare by, of the labels at n places: an absent label is 0, one that
 * is no number comes last. False: no memory. */
bool sgc__lowest_read(folder *f, const sgc__sample *s, const uint32_t *places, size_t n, double *lowest);
bool sgc__is_lower(const double *a, const double *b);
/* Fills the slot of extract `i` of f->fold; false: no memory. */
bool sgc__slot_finish(folder *f, size_t i);

#endif
