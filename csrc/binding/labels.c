/*
 * labels.c - names and labels as str and dict.
 *
 * Pages say the same words again and again, and most lines of a page say what
 * another one says but for a value or two. So the module keeps a bounded number
 * of words as str, and a page that is read as objects the labels that were read
 * last as a dict: the next ones are a copy of it, with the values that differ set.
 *
 * That dict never leaves this file but as a copy. While one is made the collector
 * may run, and with it any code, also one that asks for labels of this page, and
 * so may other threads: they then get them without the help of what the page keeps
 * (`busy`).
 */
#include "binding.h"

#include <string.h>

enum {
    WORD_MAX = 64, /* bytes of a word that is kept */
    N_PATTERNS = 4,
    PATTERN_MAX = 64, /* labels of a dict that is kept */
};

/* The labels that were read last, of those samples that have n. */
typedef struct pattern {
    PyObject *dict; /* NULL: none was read */
    size_t index;   /* of their sample */
    size_t n;
    PyObject **names; /* its keys */
    sgc_label *labels;
    bool *changed;
} pattern;

struct core_patterns {
    bool busy;
    sgc_str name; /* of the sample that was read last, and its str */
    PyObject *name_str;
    pattern patterns[N_PATTERNS];
};

/* ------------------------------------------------------------------- words */

/* The first eight bytes, as far as there are so many. */
static uint64_t piece(const char *p, size_t len)
{
    uint64_t word = 0;
    memcpy(&word, p, len < 8 ? len : 8);
    return word;
}

/* The one place a word may be kept in: another one there gives way to it. */
static PyObject **word_place(core_state *state, sgc_str text)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t hash = piece(text.ptr, text.len) ^ (uint64_t)text.len << 56;
    if (text.len > 8)
        hash = hash * odd ^ piece(text.ptr + text.len - 8, 8);
    if (text.len > 16)
        hash = hash * odd ^ piece(text.ptr + text.len / 2, 8);
    return &state->words[hash * odd >> (64 - CORE_WORD_BITS)];
}

static void words_lock(core_state *state)
{
    (void)state;
#ifdef Py_GIL_DISABLED
    PyMutex_Lock(&state->words_lock);
#endif
}

static void words_unlock(core_state *state)
{
    (void)state;
#ifdef Py_GIL_DISABLED
    PyMutex_Unlock(&state->words_lock);
#endif
}

static bool word_is(PyObject *word, sgc_str text)
{
    return word && (size_t)PyUnicode_GET_LENGTH(word) == text.len &&
           memcmp(PyUnicode_1BYTE_DATA(word), text.ptr, text.len) == 0;
}

/* The str of some text. Only ASCII is kept, whose str has the same bytes. */
static PyObject *word_str(core_state *state, sgc_str text)
{
    if (text.len > WORD_MAX)
        return core_text(text);
    PyObject **place = word_place(state, text);
    words_lock(state);
    PyObject *str = word_is(*place, text) ? Py_NewRef(*place) : NULL;
    words_unlock(state);
    if (str)
        return str;
    str = core_text(text);
    if (str && PyUnicode_IS_ASCII(str)) {
        words_lock(state);
        Py_XSETREF(*place, Py_NewRef(str));
        words_unlock(state);
    }
    return str;
}

void core_words_clear(core_state *state)
{
    for (size_t i = 0; i < CORE_N_WORDS; i++)
        Py_CLEAR(state->words[i]);
}

static PyObject *value_str(core_state *state, const sgc_label *label)
{
    if (!label->escaped)
        return word_str(state, label->value);
    char *plain = PyMem_Malloc(label->value.len + 1);
    if (!plain)
        return PyErr_NoMemory();
    PyObject *str = core_text((sgc_str){plain, sgc_unescape(label->value, plain)});
    PyMem_Free(plain);
    return str;
}

/* Made when first asked for; NULL without memory for it, and without an exception. */
static core_patterns *patterns_of(PageObject *page)
{
    if (!page->patterns)
        page->patterns = PyMem_Calloc(1, sizeof *page->patterns);
    return page->patterns;
}

static PyObject *sample_name_locked(PageObject *page, sgc_str name)
{
    core_patterns *last = patterns_of(page);

    if (last && last->name_str && last->name.len == name.len &&
        memcmp(last->name.ptr, name.ptr, name.len) == 0)
        return Py_NewRef(last->name_str);
    PyObject *str = word_str(core_state_of((PyObject *)page), name);
    if (str && last) {
        last->name = name;
        Py_XSETREF(last->name_str, Py_NewRef(str));
    }
    return str;
}

PyObject *core_sample_name(PageObject *page, sgc_str name)
{
    PyObject *str;
    Py_BEGIN_CRITICAL_SECTION(page);
    str = sample_name_locked(page, name);
    Py_END_CRITICAL_SECTION();
    return str;
}

/* ------------------------------------------------------------------ labels */

/* A dict of the labels; its keys go to `names`, borrowed, unless that is NULL. */
static PyObject *labels_dict(core_state *state, const sgc_label *labels, size_t n, PyObject **names)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < n; i++) {
        PyObject *name = word_str(state, labels[i].name);
        PyObject *value = name ? value_str(state, &labels[i]) : NULL;
        if (names)
            names[i] = name;
        if (!value || PyDict_SetItem(dict, name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return dict;
}

typedef void read_labels(const sgc_page *page, size_t index, sgc_label *out);

/* Without the help of what the page keeps. */
static PyObject *labels_read(PageObject *page, size_t index, size_t n, read_labels *read)
{
    sgc_label few[16], *labels = n <= sizeof few / sizeof *few ? few : PyMem_New(sgc_label, n);
    if (!labels)
        return PyErr_NoMemory();
    read(page->page, index, labels);
    PyObject *dict = labels_dict(core_state_of((PyObject *)page), labels, n, NULL);
    if (labels != few)
        PyMem_Free(labels);
    return dict;
}

static void pattern_clear(pattern *pattern)
{
    Py_CLEAR(pattern->dict);
    PyMem_Free(pattern->labels);
    pattern->labels = NULL;
}

/* Makes an empty pattern the one of a sample. */
static int pattern_make(pattern *pattern, PageObject *page, size_t index, size_t n)
{
    char *room =
        PyMem_Malloc(n * (sizeof *pattern->labels + sizeof *pattern->names + sizeof *pattern->changed));
    if (!room) {
        PyErr_NoMemory();
        return -1;
    }
    pattern->n = n;
    pattern->labels = (sgc_label *)(void *)room;
    pattern->names = (PyObject **)(void *)(pattern->labels + n);
    pattern->changed = (bool *)(pattern->names + n);
    sgc_page_labels(page->page, index, pattern->labels);
    pattern->dict = labels_dict(core_state_of((PyObject *)page), pattern->labels, n, pattern->names);
    return pattern->dict ? 0 : -1;
}

/* Sets the values that were found to differ. */
static int pattern_change(core_state *state, pattern *pattern)
{
    int done = 0;
    for (size_t i = 0; done == 0 && i < pattern->n; i++) {
        if (!pattern->changed[i])
            continue;
        PyObject *value = value_str(state, &pattern->labels[i]);
        done = value ? PyDict_SetItem(pattern->dict, pattern->names[i], value) : -1;
        Py_XDECREF(value);
    }
    return done;
}

/* Makes a pattern the one of another sample. */
static int pattern_move(pattern *pattern, PageObject *page, size_t index, size_t n)
{
    int done;
    if (pattern->dict &&
        sgc_page_labels_step(page->page, pattern->index, index, pattern->labels, pattern->changed)) {
        done = pattern_change(core_state_of((PyObject *)page), pattern);
    } else {
        pattern_clear(pattern);
        done = pattern_make(pattern, page, index, n);
    }
    pattern->index = index;
    if (done < 0)
        pattern_clear(pattern);
    return done;
}

/* By what the page keeps; NULL, without an exception, where that is of no help. */
static PyObject *sample_labels_locked(PageObject *page, size_t index, size_t n)
{
    core_patterns *patterns = patterns_of(page);
    if (!patterns || patterns->busy)
        return NULL;
    patterns->busy = true;
    pattern *pattern = &patterns->patterns[n % N_PATTERNS];
    PyObject *dict = NULL;
    if (pattern_move(pattern, page, index, n) == 0)
        dict = PyDict_Copy(pattern->dict);
    patterns->busy = false;
    return dict;
}

PyObject *core_sample_labels(PageObject *page, size_t index)
{
    PyObject *dict = NULL;
    sgc_sample sample;

    sgc_page_sample(page->page, index, &sample);
    size_t n = sample.n_labels;
    if (n && n <= PATTERN_MAX) {
        Py_BEGIN_CRITICAL_SECTION(page);
        dict = sample_labels_locked(page, index, n);
        Py_END_CRITICAL_SECTION();
    }
    return dict || PyErr_Occurred() ? dict : labels_read(page, index, n, sgc_page_labels);
}

PyObject *core_exemplar_labels(PageObject *page, size_t index, size_t n)
{
    return labels_read(page, index, n, sgc_page_exemplar_labels);
}

void core_patterns_free(core_patterns *patterns)
{
    if (!patterns)
        return;
    Py_XDECREF(patterns->name_str);
    for (size_t i = 0; i < N_PATTERNS; i++)
        pattern_clear(&patterns->patterns[i]);
    PyMem_Free(patterns);
}
