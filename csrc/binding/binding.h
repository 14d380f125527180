/*
 * binding.h - what the files of sglang_collect._core share. One file a group of
 * types; each opens with what it is in Python. The binding sees the two public
 * headers of the core and holds no rule of its own about pages or transfers.
 *
 * Conventions: functions return a new reference, or NULL (int: -1) with an
 * exception set. Every type is a final heap type, so the state of the module is
 * found through the type of any of its objects. Objects are immutable but for
 * Scraper, Steady and what is made when it is first asked for.
 *
 * Only Fold and Result can hold an object that a program may tie into a cycle
 * (the dicts of a fold, the traceback of an error), so only they are known to
 * the garbage collector: every str that is kept is an exact str.
 */
#ifndef SGLANG_COLLECT_BINDING_H
#define SGLANG_COLLECT_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>

#include "sgc.h"
#include "sgc_scrape.h"

/* X(member, spec): the types of the module. */
#define CORE_TYPE_LIST(X)             \
    X(page, core_page_spec)           \
    X(samples, core_samples_spec)     \
    X(sample, core_sample_spec)       \
    X(exemplar, core_exemplar_spec)   \
    X(values, core_values_spec)       \
    X(series, core_series_spec)       \
    X(columns, core_columns_spec)     \
    X(families, core_families_spec)   \
    X(family, core_family_spec)       \
    X(histogram, core_histogram_spec) \
    X(extract, core_extract_spec)     \
    X(plan, core_plan_spec)           \
    X(fold, core_fold_spec)           \
    X(layout, core_layout_spec)       \
    X(steady, core_steady_spec)       \
    X(guard, core_guard_spec)         \
    X(endpoint, core_endpoint_spec)   \
    X(body, core_body_spec)           \
    X(result, core_result_spec)       \
    X(scraper, core_scraper_spec)

/* What changes in an object is guarded by the GIL, or where there is none by the
 * object's own lock: between these two, which stand in one block. Like the GIL it
 * is given up while a thread waits for anything, and so by all that may run
 * Python's code. Before Python 3.13 there is nothing but the GIL. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#define CORE_TYPE_SPEC(member, spec) extern PyType_Spec spec;
CORE_TYPE_LIST(CORE_TYPE_SPEC)
#undef CORE_TYPE_SPEC

enum { CORE_N_ERRORS = SGC_FAIL_MEMORY + 1, CORE_WORD_BITS = 11, CORE_N_WORDS = 1 << CORE_WORD_BITS };

typedef struct core_state {
#define CORE_TYPE_MEMBER(member, spec) PyTypeObject *member;
    CORE_TYPE_LIST(CORE_TYPE_MEMBER)
#undef CORE_TYPE_MEMBER
    PyObject *errors[CORE_N_ERRORS]; /* the exception of each sgc_fail_kind */
    PyObject *model_slots[4];        /* names of what an object of a pydantic model keeps, see model.c */
    PyObject *no_args;               /* () */
    _Atomic(void *) calendar;        /* datetime's functions; NULL until the first moment */
    PyObject *words[CORE_N_WORDS];   /* str that pages share, see labels.c; NULL where there is none */
#ifdef Py_GIL_DISABLED
    PyMutex words_lock; /* never held while Python's code runs */
#endif
} core_state;

static inline core_state *core_state_of(PyObject *object)
{
    return PyType_GetModuleState(Py_TYPE(object));
}

/* ------------------------------------------------------------- text.c: words */

/* The str of some bytes; what is not UTF-8 in them is shown as U+FFFD. */
PyObject *core_text(sgc_str text);
PyObject *core_text_z(const char *text);

/* The UTF-8 of a str, which lives as long as the str. TypeError and ValueError
 * name `what` and never repeat the text, which may be a secret. */
int core_view(PyObject *text, const char *what, sgc_str *view);

/* An exact str with the text of a str of any class. */
PyObject *core_exact(PyObject *text, const char *what);

/* A tuple of exact str from an iterable of str that is no str itself. */
PyObject *core_strings(PyObject *iterable, const char *what);

/* The UTF-8 of a tuple of str, in memory for PyMem_Free. */
sgc_str *core_views(PyObject *strings, const char *what);

/* List of the pairs of a mapping. */
PyObject *core_items(PyObject *mapping, const char *what);

/* Index of a str in a list of words that ends with NULL; ValueError names them. */
int core_word(PyObject *text, const char *const *words, const char *what);

/* ---------------------------------------------------- input.c: bytes to read */

/* The bytes of an exposition and how to read them. `owner` keeps `data` alive
 * and unchanged: an exact bytes or a Body. */
typedef struct core_input {
    PyObject *owner;
    const char *data;
    size_t len;
    sgc_options options;
} core_input;

/* From bytes, str, a buffer or a Body; format and limits may be NULL. */
int core_input_init(core_state *state, core_input *input, PyObject *data, PyObject *format, int strict,
                    PyObject *limits);
void core_input_clear(core_input *input);

/* Fills *limits from an object with the attributes of SGC_LIMIT_LIST; None: the defaults. */
int core_limits_read(PyObject *object, sgc_limits *limits);

/* "text" or "openmetrics". */
PyObject *core_format_text(sgc_format format);

/* ----------------------------------------------------- errors.c: exceptions */

int core_errors_import(core_state *state);
PyObject *core_reasons(void); /* dict: slug to the name of its exception */

/* The exception for a failed call of the core. `label` is the endpoint of a
 * scraped page and `elapsed` its seconds; NULL for a page that was handed over. */
PyObject *core_error(core_state *state, const sgc_error *err, const char *label, double elapsed);
/* Raises it, and returns NULL. */
PyObject *core_raise(core_state *state, const sgc_error *err);

/* The exception for a failed scrape. */
PyObject *core_failure(core_state *state, const sgc_failure *failure, const char *label, double elapsed);
/* Raises an exception, which is consumed, and returns NULL; NULL: one is raised already. */
PyObject *core_raise_error(PyObject *error);
/* Raises KeyError(key), whatever the key is. */
void core_raise_key(PyObject *key);

/* ------------------------------------------------------------------ objects */

/* The end of every dealloc. */
void core_free(PyObject *object);

/* An attribute that is made when first asked for; NULL, without an exception,
 * before that. */
PyObject *core_kept(PyObject *object, PyObject **attribute);
/* Keeps it once it is made; `made` is consumed. Returns the one that is kept,
 * which is another one where another thread was quicker. */
PyObject *core_keep(PyObject *object, PyObject **attribute, PyObject *made);

/* __deepcopy__ of what does not change. */
PyObject *core_itself(PyObject *object, PyObject *memo);

/* __reduce__ of what cannot leave the process, as an entry of its methods: {CORE_NO_PICKLE}. */
PyObject *core_no_pickle(PyObject *object, PyObject *unused);
#define CORE_NO_PICKLE "__reduce__", core_no_pickle, METH_NOARGS, PyDoc_STR("Raises TypeError.")

/* The methods of what only points into a page. */
extern PyMethodDef core_view_methods[];
/* The methods of what has a buffer. */
extern PyMethodDef core_buffer_methods[];

typedef struct core_patterns core_patterns; /* see labels.c */

typedef struct PageObject {
    PyObject ob_base;
    core_input input; /* its format is the one the page was read in */
    sgc_page *page;
    PyObject *order;         /* samples by family, see page.c; NULL until asked for */
    core_patterns *patterns; /* NULL until asked for */
} PageObject;

/* Parses without the GIL; `input` is consumed, whatever comes of it. A failure
 * is raised as core_error says it. */
PyObject *core_page_new(core_state *state, core_input *input, const char *label, double elapsed);

/* The samples of a family, in page order. */
PyObject *core_page_family_samples(PageObject *page, const sgc_family *family, size_t index);

/* A view: sample i is order[start + i * step], or start + i * step where order is NULL. */
PyObject *core_samples_new(PageObject *page, PyObject *order, Py_ssize_t start, Py_ssize_t step,
                           Py_ssize_t len);
PyObject *core_families_new(PageObject *page);

/* The name of a sample as a str, and new dicts of its labels and of its exemplar's n labels. */
PyObject *core_sample_name(PageObject *page, sgc_str name);
PyObject *core_sample_labels(PageObject *page, size_t index);
PyObject *core_exemplar_labels(PageObject *page, size_t index, size_t n);
void core_patterns_free(core_patterns *patterns);
void core_words_clear(core_state *state);

/* A memoryview of the values; Columns, of which `like` is an earlier one or None. */
PyObject *core_values_view(PageObject *page);
PyObject *core_columns_new(PageObject *page, PyObject *like);
PyObject *core_family_new(PageObject *page, size_t index);

/* pick.c: the nearest int; None for what no 64-bit integer holds. */
PyObject *core_nearest(double value);
bool core_is_whole(double value); /* does one hold it? */
/* The number for a slot of a fold, or of any mapping; whole: True or False. */
PyObject *core_picked(core_state *state, PyObject *fold, PyObject *slot, PyObject *whole);
PyObject *core_pick(PyObject *module, PyObject *const *args, Py_ssize_t n_args);

/* fallen.c */
PyObject *core_fallen(PyObject *module, PyObject *const *args, Py_ssize_t n_args);

/* model.c */
int core_model_init(core_state *state);
PyObject *core_build(PyObject *module, PyObject *const *args, Py_ssize_t n_args);
PyObject *core_build_groups(PyObject *module, PyObject *const *args, Py_ssize_t n_args);
PyObject *core_add_fields(PyObject *module, PyObject *const *args, Py_ssize_t n_args);

/* moment.c */
PyObject *core_moment(PyObject *module, PyObject *seconds);

/* Lower bound of a bucket; -Inf for one without. */
double core_bucket_start(const sgc_hist *hist, size_t bucket);

/* Copies. */
PyObject *core_histogram_new(core_state *state, const sgc_hist *hist);

typedef struct PlanObject {
    PyObject ob_base;
    sgc_plan *plan;
    PyObject *names; /* tuple of str: of extracts, then of formulas */
    PyObject *slots; /* dict: name to its index */
    size_t n_formulas;
    sgc_formula **formulas;
} PlanObject;

/* formula.c: from (step, ...) tuples over the slots of a plan. */
sgc_formula *core_formula_new(core_state *state, PyObject *slots, PyObject *steps);

/* An Extract as the core takes it; its text lives as long as the object. */
typedef struct core_extract {
    sgc_extract extract;
    sgc_str *names, *without, *lowest;
    sgc_cond *where;
    sgc_str **values;
} core_extract;

int core_extract_init(core_extract *extract, PyObject *object);
void core_extract_clear(core_extract *extract);

/* A slot of a Fold, or a formula as a slot; KeyError. */
int core_fold_look(PyObject *fold, PyObject *name, sgc_slot *slot);
/* Likewise the one of that number in a plan, which need not be the fold's. */
int core_fold_look_at(PyObject *fold, const PlanObject *plan, Py_ssize_t number, sgc_slot *slot);

/* Consumes the fold. */
PyObject *core_fold_new(PlanObject *plan, sgc_fold *fold);
/* Folds without the GIL; NULL with an exception. */
sgc_fold *core_fold_input(core_state *state, const sgc_plan *plan, const core_input *input);

typedef struct GuardObject {
    PyObject ob_base;
    sgc_guard *guard;
    PyObject *allow; /* tuple of str */
} GuardObject;

typedef struct EndpointObject {
    PyObject ob_base;
    sgc_endpoint *endpoint;
    PyObject *url;
    double timeout;
    sgc_limits limits;
    char label[SGC_LABEL_SIZE];
} EndpointObject;

typedef struct BodyObject {
    PyObject ob_base;
    char *data; /* the core's; NULL where there is no byte */
    size_t len;
    size_t room;
} BodyObject;

/* Consumes the result. */
PyObject *core_result_new(core_state *state, EndpointObject *endpoint, PlanObject *plan, sgc_result *result);

#endif
