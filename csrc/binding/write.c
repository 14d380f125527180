/*
 * write.c - many values of a fold as JSON, without an object for each:
 *
 *     def write(fields, fold, made, quantiles, /) -> bytes
 *
 * What pick() gives, a dict of it, and summary() for histograms, as JSON has it.
 */
#include "binding.h"

#include <math.h>
#include <string.h>

/* -------------------------------------------------------------------- bytes */

enum { FIRST_ROOM = 4096 }; /* the native groups of a page are 2 to 3 KB */

typedef struct writer {
    char *ptr;
    size_t len;
    size_t room;
    PyObject *quantiles; /* tuple of (name, q) */
} writer;

/* Room for so many bytes more; NULL with an exception. */
static char *more(writer *w, size_t n)
{
    if (n > w->room - w->len) {
        size_t room = w->len + n + (w->room ? w->room : FIRST_ROOM);
        char *ptr = n <= PY_SSIZE_T_MAX / 2 && room <= PY_SSIZE_T_MAX ? PyMem_Realloc(w->ptr, room) : NULL;
        if (!ptr) {
            PyErr_NoMemory();
            return NULL;
        }
        w->ptr = ptr;
        w->room = room;
    }
    return w->ptr + w->len;
}

static int put(writer *w, const char *text)
{
    size_t n = strlen(text);
    char *at = more(w, n);
    if (!at)
        return -1;
    for (size_t i = 0; i < n; i++)
        at[i] = text[i];
    w->len += n;
    return 0;
}

static int put_text(writer *w, sgc_str text)
{
    char *at = text.len < PY_SSIZE_T_MAX / 8 ? more(w, 6 * text.len + 2) : (PyErr_NoMemory(), NULL);
    if (!at)
        return -1;
    w->len += sgc_json_text(text, at);
    return 0;
}

/* "name": */
static int put_name(writer *w, PyObject *name, bool is_first)
{
    sgc_str view;
    if (core_view(name, "a name", &view) < 0 || (!is_first && put(w, ",") < 0) || put_text(w, view) < 0)
        return -1;
    return put(w, ":");
}

/* ------------------------------------------------------------------ numbers */

/* Does an int (whole) or a float stand for it? */
static bool is_number(double value, bool whole)
{
    return whole ? core_is_whole(value) : isfinite(value);
}

static int put_number(writer *w, double value, bool whole)
{
    if (!is_number(value, whole))
        return put(w, "null");
    char *at = more(w, SGC_JSON_NUMBER);
    if (!at)
        return -1;
    w->len += whole ? sgc_json_integer((int64_t)nearbyint(value), at) : sgc_json_number(value, at);
    return 0;
}

static int put_quantile(writer *w, const sgc_hist *hist, PyObject *pair, bool is_first, bool bounds)
{
    PyObject *name;
    double q;
    size_t bucket = 0;
    if (!PyTuple_CheckExact(pair)) {
        PyErr_SetString(PyExc_TypeError, "a quantile must be a tuple of its name and q");
        return -1;
    }
    if (!PyArg_ParseTuple(pair, "Ud", &name, &q))
        return -1;
    double quantile = sgc_hist_quantile(hist, q, &bucket);
    if (!bounds)
        return put_name(w, name, is_first) < 0 ? -1 : put_number(w, quantile, false);
    if (put_name(w, name, is_first) < 0 || put(w, "[") < 0 ||
        put_number(w, core_bucket_start(hist, bucket), false) < 0 || put(w, ",") < 0 ||
        put_number(w, hist->bounds[bucket], false) < 0)
        return -1;
    return put(w, "]");
}

/* A quantile of each name, or the bounds of its bucket. An empty histogram has none. */
static int put_quantiles(writer *w, const sgc_hist *hist, bool is_first, bool bounds)
{
    if (bounds && isnan(sgc_hist_quantile(hist, 0.5, NULL)))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(w->quantiles); i++) {
        if (put_quantile(w, hist, PyTuple_GET_ITEM(w->quantiles, i), is_first, bounds) < 0)
            return -1;
        is_first = false;
    }
    return 0;
}

static int put_histogram(writer *w, const sgc_hist *hist)
{
    if (!core_is_whole(hist->count))
        return put(w, "null");
    if (put(w, "{\"count\":") < 0 || put_number(w, hist->count, true) < 0 || put(w, ",\"sum\":") < 0 ||
        put_number(w, hist->sum, false) < 0 || put(w, ",\"mean\":") < 0 ||
        put_number(w, sgc_hist_mean(hist), false) < 0 || put_quantiles(w, hist, false, false) < 0 ||
        put(w, ",\"resolution\":{") < 0 || put_quantiles(w, hist, true, true) < 0)
        return -1;
    return put(w, "}}");
}

/* ------------------------------------------------------------------- values */

/* A dict of numbers, without those that nothing stands for. */
static int put_numbers(writer *w, PyObject *values, bool whole)
{
    PyObject *key, *value;
    Py_ssize_t place = 0;
    bool is_first = true;
    if (put(w, "{") < 0)
        return -1;
    while (PyDict_Next(values, &place, &key, &value)) {
        if (!PyFloat_CheckExact(value)) {
            PyErr_SetString(PyExc_TypeError, "a dict to write must be of floats");
            return -1;
        }
        if (!is_number(PyFloat_AS_DOUBLE(value), whole))
            continue;
        if (put_name(w, key, is_first) < 0 || put_number(w, PyFloat_AS_DOUBLE(value), whole) < 0)
            return -1;
        is_first = false;
    }
    return put(w, "}");
}

/* What Python has made: None, a float or a dict of floats. */
static int put_made(writer *w, PyObject *value, bool whole)
{
    int done;
    if (value == Py_None)
        return put(w, "null");
    if (PyFloat_CheckExact(value))
        return put_number(w, PyFloat_AS_DOUBLE(value), whole);
    if (!PyDict_CheckExact(value)) {
        PyErr_Format(PyExc_TypeError, "what was made must be None, a float or a dict, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(value);
    done = put_numbers(w, value, whole);
    Py_END_CRITICAL_SECTION();
    return done;
}

/* Likewise of a map, by the keys it has; null where it has none. */
static int put_map(writer *w, const sgc_slot *slot, bool whole)
{
    bool has_key = false, is_first = true;
    for (size_t i = 0; i < slot->n_entries; i++) {
        const sgc_entry *entry = &slot->entries[i];
        if (!entry->key.len)
            continue;
        if (!has_key && put(w, "{") < 0)
            return -1;
        has_key = true;
        if (entry->hist || !is_number(entry->value, whole))
            continue;
        if ((!is_first && put(w, ",") < 0) || put_text(w, entry->key) < 0 || put(w, ":") < 0 ||
            put_number(w, entry->value, whole) < 0)
            return -1;
        is_first = false;
    }
    return put(w, has_key ? "}" : "null");
}

/* A slot or a formula, as it stands in the fold. */
static int put_slot(writer *w, PyObject *fold, PyObject *name, bool whole)
{
    sgc_slot slot;
    if (core_fold_look(fold, name, &slot) < 0)
        return -1;
    switch (slot.kind) {
    case SGC_SLOT_VALUE:
        return put_number(w, slot.value, whole);
    case SGC_SLOT_HIST:
        return put_histogram(w, slot.hist);
    case SGC_SLOT_MAP:
        return put_map(w, &slot, whole);
    default:
        return put(w, "null");
    }
}

static PyObject *made_of(PyObject *made, PyObject *name)
{
    PyObject *value = PyDict_CheckExact(made) ? PyDict_GetItemWithError(made, name) : NULL;
    if (!value && !PyErr_Occurred())
        core_raise_key(name);
    return Py_XNewRef(value);
}

static int put_fields(writer *w, PyObject *fields, PyObject *fold, PyObject *made);

/* Fields inside, whose values are made[name][...]; nothing need be made of them. */
static int put_object(writer *w, PyObject *name, PyObject *fields, PyObject *fold, PyObject *made)
{
    PyObject *its = PyDict_CheckExact(made) ? Py_XNewRef(PyDict_GetItemWithError(made, name)) : NULL;
    if (!its && PyErr_Occurred())
        return -1;
    int done = put_fields(w, fields, fold, its ? its : Py_None);
    Py_XDECREF(its);
    return done;
}

/* (name, slot, whole); where the slot is None the value is made[name]. Or (name, fields). */
static int put_field(writer *w, PyObject *field, PyObject *fold, PyObject *made, bool is_first)
{
    Py_ssize_t n = PyTuple_CheckExact(field) ? PyTuple_GET_SIZE(field) : 0;
    if (n != 2 && n != 3) {
        PyErr_SetString(PyExc_TypeError, "a field is a tuple of name, slot and whole, or of name and fields");
        return -1;
    }
    PyObject *name = PyTuple_GET_ITEM(field, 0), *slot = PyTuple_GET_ITEM(field, 1);
    if (put_name(w, name, is_first) < 0)
        return -1;
    if (n == 2)
        return put_object(w, name, slot, fold, made);
    bool whole = PyTuple_GET_ITEM(field, 2) == Py_True;
    if (slot != Py_None)
        return put_slot(w, fold, slot, whole);
    PyObject *value = made_of(made, name);
    int done = -1;
    if (value)
        done = put_made(w, value, whole);
    Py_XDECREF(value);
    return done;
}

static int put_fields(writer *w, PyObject *fields, PyObject *fold, PyObject *made)
{
    if (!PyTuple_CheckExact(fields)) {
        PyErr_Format(PyExc_TypeError, "fields must be a tuple, not %.100s", Py_TYPE(fields)->tp_name);
        return -1;
    }
    int done = put(w, "{");
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(fields); i++)
        done = put_field(w, PyTuple_GET_ITEM(fields, i), fold, made, i == 0);
    return done < 0 ? -1 : put(w, "}");
}

PyObject *core_write(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = PyModule_GetState(module);
    if (n_args != 4 || !Py_IS_TYPE(args[1], state->fold) || !PyTuple_CheckExact(args[3]))
        return PyErr_Format(PyExc_TypeError, "write() takes fields, a Fold, a dict and a tuple of quantiles");
    writer w = {.quantiles = args[3]};
    PyObject *bytes = NULL;
    if (put_fields(&w, args[0], args[1], args[2]) == 0)
        bytes = PyBytes_FromStringAndSize(w.ptr, (Py_ssize_t)w.len);
    PyMem_Free(w.ptr);
    return bytes;
}
