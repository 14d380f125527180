/*
 * write.c - many values of a fold as JSON, without an object for each:
 *
 *     class Layout:
 *         def __init__(fields, plan, quantiles=())
 *         def write(fold, made=(), /) -> bytes
 *
 * What pick() gives, a dict of it, and summary() for histograms, as JSON has it.
 * What is the same of every fold is made once: the text between the values, and
 * where in the fold they are.
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

static int put_bytes(writer *w, const char *bytes, size_t n)
{
    char *at = more(w, n);
    if (!at)
        return -1;
    memcpy(at, bytes, n);
    w->len += n;
    return 0;
}

#define PUT(w, literal) put_bytes((w), (literal), sizeof(literal) - 1)

static int put_text(writer *w, sgc_str text)
{
    char *at = text.len < PY_SSIZE_T_MAX / 8 ? more(w, 6 * text.len + 2) : (PyErr_NoMemory(), NULL);
    if (!at)
        return -1;
    w->len += sgc_json_text(text, at);
    return 0;
}

/* ,"name": */
static int put_name(writer *w, PyObject *name, bool is_first)
{
    sgc_str view;
    if (core_view(name, "a name", &view) < 0 || (!is_first && PUT(w, ",") < 0) || put_text(w, view) < 0)
        return -1;
    return PUT(w, ":");
}

/* ------------------------------------------------------------------- layout */

typedef enum {
    PIECE_SLOT,  /* as it stands in the fold */
    PIECE_CLASS, /* a map by HTTP statuses, by their classes */
    PIECE_MADE,  /* by Python */
} piece_kind;

/* A value, and the end of the text that comes before it. */
typedef struct piece {
    size_t text_end;
    piece_kind kind;
    bool whole;
    Py_ssize_t at; /* number of the slot, or of what was made */
} piece;

typedef struct quantile {
    double q;
    size_t text_end; /* of ,"name": */
} quantile;

typedef struct LayoutObject {
    PyObject ob_base;
    PlanObject *plan;
    writer text;
    piece *pieces;
    size_t n_pieces;
    size_t room; /* for pieces */
    Py_ssize_t n_made;
    writer names; /* of the quantiles */
    quantile *quantiles;
    size_t n_quantiles;
} LayoutObject;

static piece *add_piece(LayoutObject *self)
{
    if (self->n_pieces == self->room) {
        size_t room = 2 * self->room + 16;
        piece *pieces = PyMem_Realloc(self->pieces, room * sizeof *pieces);
        if (!pieces) {
            PyErr_NoMemory();
            return NULL;
        }
        self->pieces = pieces;
        self->room = room;
    }
    return &self->pieces[self->n_pieces++];
}

/* Number of the slot of that name; -1 with KeyError. */
static Py_ssize_t slot_number(const LayoutObject *self, PyObject *name)
{
    PyObject *number = PyDict_GetItemWithError(self->plan->slots, name);
    if (number)
        return PyLong_AsSsize_t(number);
    if (!PyErr_Occurred())
        core_raise_key(name);
    return -1;
}

static int add_value(LayoutObject *self, PyObject *slot, bool whole, bool by_class)
{
    piece *added;
    Py_ssize_t at = slot == Py_None ? self->n_made++ : slot_number(self, slot);
    if (at < 0 || !(added = add_piece(self)))
        return -1;
    *added = (piece){self->text.len,
                     slot == Py_None ? PIECE_MADE
                     : by_class      ? PIECE_CLASS
                                     : PIECE_SLOT,
                     whole, at};
    return 0;
}

static int add_fields(LayoutObject *self, PyObject *fields);

/* (name, slot, whole), (name, slot, whole, by_class) or (name, fields) */
static int add_field(LayoutObject *self, PyObject *field, bool is_first)
{
    Py_ssize_t n = PyTuple_CheckExact(field) ? PyTuple_GET_SIZE(field) : 0;
    if (n < 2 || n > 4) {
        PyErr_SetString(PyExc_TypeError, "a field is a tuple of name, slot and whole, or of name and fields");
        return -1;
    }
    if (put_name(&self->text, PyTuple_GET_ITEM(field, 0), is_first) < 0)
        return -1;
    if (n == 2)
        return add_fields(self, PyTuple_GET_ITEM(field, 1));
    return add_value(self, PyTuple_GET_ITEM(field, 1), PyTuple_GET_ITEM(field, 2) == Py_True,
                     n == 4 && PyTuple_GET_ITEM(field, 3) == Py_True);
}

static int add_fields(LayoutObject *self, PyObject *fields)
{
    if (!PyTuple_CheckExact(fields)) {
        PyErr_Format(PyExc_TypeError, "fields must be a tuple, not %.100s", Py_TYPE(fields)->tp_name);
        return -1;
    }
    if (Py_EnterRecursiveCall(" in fields of a Layout"))
        return -1;
    int done = PUT(&self->text, "{");
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(fields); i++)
        done = add_field(self, PyTuple_GET_ITEM(fields, i), i == 0);
    Py_LeaveRecursiveCall();
    return done < 0 ? -1 : PUT(&self->text, "}");
}

static int add_quantiles(LayoutObject *self, PyObject *quantiles)
{
    Py_ssize_t n = PyTuple_GET_SIZE(quantiles);
    if (!(self->quantiles = PyMem_New(quantile, (size_t)n + 1))) {
        PyErr_NoMemory();
        return -1;
    }
    while ((Py_ssize_t)self->n_quantiles < n) {
        PyObject *pair = PyTuple_GET_ITEM(quantiles, (Py_ssize_t)self->n_quantiles), *name;
        quantile *added = &self->quantiles[self->n_quantiles];
        if (!PyTuple_CheckExact(pair)) {
            PyErr_SetString(PyExc_TypeError, "a quantile must be a tuple of its name and q");
            return -1;
        }
        if (!PyArg_ParseTuple(pair, "Ud", &name, &added->q) || put_name(&self->names, name, false) < 0)
            return -1;
        added->text_end = self->names.len;
        self->n_quantiles++;
    }
    return 0;
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
        return PUT(w, "null");
    char *at = more(w, SGC_JSON_NUMBER);
    if (!at)
        return -1;
    w->len += whole ? sgc_json_integer((int64_t)nearbyint(value), at) : sgc_json_number(value, at);
    return 0;
}

/* ,"name": of a quantile; without the comma where it is the first of an object. */
static int put_quantile_name(writer *w, const LayoutObject *layout, size_t i, bool is_first)
{
    size_t begin = (i ? layout->quantiles[i - 1].text_end : 0) + is_first;
    return put_bytes(w, layout->names.ptr + begin, layout->quantiles[i].text_end - begin);
}

static int put_quantiles(writer *w, const LayoutObject *layout, const sgc_hist *hist)
{
    for (size_t i = 0; i < layout->n_quantiles; i++)
        if (put_quantile_name(w, layout, i, false) < 0 ||
            put_number(w, sgc_hist_quantile(hist, layout->quantiles[i].q, NULL), false) < 0)
            return -1;
    return 0;
}

/* The bounds of the bucket that each is in. An empty histogram has none. */
static int put_resolution(writer *w, const LayoutObject *layout, const sgc_hist *hist)
{
    size_t bucket = 0;
    if (isnan(sgc_hist_quantile(hist, 0.5, NULL)))
        return 0;
    for (size_t i = 0; i < layout->n_quantiles; i++) {
        sgc_hist_quantile(hist, layout->quantiles[i].q, &bucket);
        if (put_quantile_name(w, layout, i, i == 0) < 0 || PUT(w, "[") < 0 ||
            put_number(w, core_bucket_start(hist, bucket), false) < 0 || PUT(w, ",") < 0 ||
            put_number(w, hist->bounds[bucket], false) < 0 || PUT(w, "]") < 0)
            return -1;
    }
    return 0;
}

static int put_histogram(writer *w, const LayoutObject *layout, const sgc_hist *hist)
{
    if (!core_is_whole(hist->count))
        return PUT(w, "null");
    if (PUT(w, "{\"count\":") < 0 || put_number(w, hist->count, true) < 0 || PUT(w, ",\"sum\":") < 0 ||
        put_number(w, hist->sum, false) < 0 || PUT(w, ",\"mean\":") < 0 ||
        put_number(w, sgc_hist_mean(hist), false) < 0 || put_quantiles(w, layout, hist) < 0 ||
        PUT(w, ",\"resolution\":{") < 0 || put_resolution(w, layout, hist) < 0)
        return -1;
    return PUT(w, "}}");
}

/* ------------------------------------------------------------------- values */

/* A map by the keys it has; null where it has none. */
static int put_map(writer *w, const sgc_slot *slot, bool whole)
{
    bool has_key = false, is_first = true;
    for (size_t i = 0; i < slot->n_entries; i++) {
        const sgc_entry *entry = &slot->entries[i];
        if (!entry->key.len)
            continue;
        if (!has_key && PUT(w, "{") < 0)
            return -1;
        has_key = true;
        if (entry->hist || !is_number(entry->value, whole))
            continue;
        if ((!is_first && PUT(w, ",") < 0) || put_text(w, entry->key) < 0 || PUT(w, ":") < 0 ||
            put_number(w, entry->value, whole) < 0)
            return -1;
        is_first = false;
    }
    return has_key ? PUT(w, "}") : PUT(w, "null");
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A map by HTTP statuses, by their first digits, in the order in which they come;
 * null where it is not whole. */
static int put_classes(writer *w, const sgc_slot *slot, bool whole)
{
    enum { OTHER = 10, N };
    double sums[N] = {0};
    unsigned char order[N];
    bool seen[N] = {false}, is_first = true;
    size_t n = 0;

    for (size_t i = 0; slot->kind == SGC_SLOT_MAP && !slot->reason && i < slot->n_entries; i++) {
        sgc_str key = slot->entries[i].key;
        bool is_status = key.len == 3 && is_digit(key.ptr[0]) && is_digit(key.ptr[1]) && is_digit(key.ptr[2]);
        unsigned class = is_status ? (unsigned)(key.ptr[0] - '0') : OTHER;
        if (!seen[class])
            order[n++] = (unsigned char)class;
        seen[class] = true;
        sums[class] += slot->entries[i].value;
    }
    if (!n)
        return PUT(w, "null");
    if (PUT(w, "{") < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char name[] = ",\"0xx\":";
        if (!is_number(sums[order[i]], whole))
            continue;
        name[2] = (char)('0' + order[i]);
        if ((order[i] == OTHER ? put_bytes(w, &",\"other\":"[is_first], 9 - is_first)
                               : put_bytes(w, name + is_first, 7 - is_first)) < 0 ||
            put_number(w, sums[order[i]], whole) < 0)
            return -1;
        is_first = false;
    }
    return PUT(w, "}");
}

/* What Python has made: None or a float. */
static int put_made(writer *w, PyObject *value, bool whole)
{
    if (value == Py_None)
        return PUT(w, "null");
    if (PyFloat_CheckExact(value))
        return put_number(w, PyFloat_AS_DOUBLE(value), whole);
    PyErr_Format(PyExc_TypeError, "what was made must be None or a float, not %.100s",
                 Py_TYPE(value)->tp_name);
    return -1;
}

static int put_slot(writer *w, const LayoutObject *layout, const piece *piece, const sgc_slot *slot)
{
    if (piece->kind == PIECE_CLASS)
        return put_classes(w, slot, piece->whole);
    switch (slot->kind) {
    case SGC_SLOT_VALUE:
        return put_number(w, slot->value, piece->whole);
    case SGC_SLOT_HIST:
        return put_histogram(w, layout, slot->hist);
    case SGC_SLOT_MAP:
        return put_map(w, slot, piece->whole);
    default:
        return PUT(w, "null");
    }
}

static int put_value(writer *w, const LayoutObject *layout, const piece *piece, PyObject *fold,
                     PyObject *made)
{
    sgc_slot slot;
    if (piece->kind == PIECE_MADE)
        return put_made(w, PyTuple_GET_ITEM(made, piece->at), piece->whole);
    return core_fold_look_at(fold, layout->plan, piece->at, &slot) < 0 ? -1
                                                                       : put_slot(w, layout, piece, &slot);
}

static int put_all(writer *w, const LayoutObject *layout, PyObject *fold, PyObject *made)
{
    size_t from = 0;
    for (size_t i = 0; i < layout->n_pieces; i++) {
        const piece *piece = &layout->pieces[i];
        if (put_bytes(w, layout->text.ptr + from, piece->text_end - from) < 0 ||
            put_value(w, layout, piece, fold, made) < 0)
            return -1;
        from = piece->text_end;
    }
    return put_bytes(w, layout->text.ptr + from, layout->text.len - from);
}

/* --------------------------------------------------------------------- type */

PyDoc_STRVAR(write_doc,
             "write($self, fold, made=(), /)\n--\n\n"
             "A JSON object (bytes) of these values of a fold, as the numbers that a model has.\n\n"
             "made: tuple of the values of fields without a slot, in order: None or a float.\n\n"
             "Raises KeyError where the fold is of another plan that has not all the slots.");

static PyObject *layout_write(PyObject *object, PyObject *const *args, Py_ssize_t n_args)
{
    const LayoutObject *self = (LayoutObject *)object;
    core_state *state = core_state_of(object);
    if (n_args < 1 || n_args > 2 || !Py_IS_TYPE(args[0], state->fold) ||
        (n_args == 2 && !PyTuple_CheckExact(args[1])))
        return PyErr_Format(PyExc_TypeError, "write() takes a Fold, and a tuple of what was made");
    PyObject *made = n_args == 2 ? args[1] : state->no_args;
    if (PyTuple_GET_SIZE(made) != self->n_made)
        return PyErr_Format(PyExc_ValueError, "%zd values were made, of %zd", PyTuple_GET_SIZE(made),
                            self->n_made);
    writer w = {0};
    PyObject *bytes = NULL;
    if (put_all(&w, self, args[0], made) == 0)
        bytes = PyBytes_FromStringAndSize(w.ptr, (Py_ssize_t)w.len);
    PyMem_Free(w.ptr);
    return bytes;
}

static PyObject *layout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fields", "plan", "quantiles", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *fields, *plan, *quantiles = state->no_args;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!|O!:Layout", names, &fields, state->plan, &plan,
                                     &PyTuple_Type, &quantiles))
        return NULL;
    LayoutObject *self = (LayoutObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->plan = (PlanObject *)Py_NewRef(plan);
    if (add_quantiles(self, quantiles) < 0 || add_fields(self, fields) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void layout_dealloc(PyObject *object)
{
    LayoutObject *self = (LayoutObject *)object;
    PyMem_Free(self->text.ptr);
    PyMem_Free(self->names.ptr);
    PyMem_Free(self->pieces);
    PyMem_Free(self->quantiles);
    Py_XDECREF(self->plan);
    core_free(object);
}

PyDoc_STRVAR(layout_doc,
             "Layout(fields, plan, quantiles=())\n--\n\n"
             "How values of the folds of a plan are written as a JSON object.\n\n"
             "fields: tuple of (name, slot, whole) as for pick(), and of (name, fields) for an object\n"
             "    inside. (name, slot, whole, True) has a map by HTTP statuses by their classes: '2xx',\n"
             "    ..., 'other'; null where a value of it is NaN.\n"
             "quantiles: tuple of (name, q), which a histogram is told by as by summary().\n\n"
             "Raises TypeError, and KeyError for a slot that the plan does not have. Immutable.");

static PyMethodDef layout_methods[] = {
    {"write", (PyCFunction)(void (*)(void))layout_write, METH_FASTCALL, write_doc},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot layout_slots[] = {
    {Py_tp_doc, (void *)layout_doc},
    {Py_tp_new, layout_new},
    {Py_tp_dealloc, layout_dealloc},
    {Py_tp_methods, layout_methods},
    {0, NULL},
};

PyType_Spec core_layout_spec = {
    .name = "sglang_collect._core.Layout",
    .basicsize = sizeof(LayoutObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = layout_slots,
};
