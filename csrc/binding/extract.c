/*
 * extract.c - one wanted number of a plan:
 *
 *     class Extract:
 *         def __init__(names, *, kind="value", where=(), without=(), lowest=(), by="", reduce="sum")
 *
 * An extract keeps what it was given as tuples of str, checked, and becomes the
 * core's sgc_extract when a plan is made of it.
 */
#include "binding.h"

#include <string.h>

typedef struct ExtractObject {
    PyObject ob_base;
    PyObject *names, *without, *lowest; /* tuple[str, ...] */
    PyObject *where;                    /* tuple[tuple[str, str, tuple[str, ...]], ...] */
    PyObject *by;                       /* str */
    sgc_kind kind;
    sgc_reduce reduce;
} ExtractObject;

static const char *const kind_words[] = {
    [SGC_KIND_VALUE] = "value",
    [SGC_KIND_HISTOGRAM] = "histogram",
    [SGC_KIND_LABEL] = "label",
    NULL,
};

static const char *const reduce_words[] = {
    [SGC_REDUCE_SUM] = "sum",
    [SGC_REDUCE_MAX] = "max",
    [SGC_REDUCE_MEAN] = "mean",
    NULL,
};

/* The word of an operation is its place in the core's list, doubled; odd ones negate. */
static const char *const op_words[] = {
    [2 * SGC_OP_IS] = "is",
    [2 * SGC_OP_IS + 1] = "is not",
    [2 * SGC_OP_STARTS] = "starts",
    [2 * SGC_OP_STARTS + 1] = "not starts",
    [2 * SGC_OP_ENDS] = "ends",
    [2 * SGC_OP_ENDS + 1] = "not ends",
    NULL,
};

/* (label, op, values) as a tuple of exact str, str and tuple. */
static PyObject *condition_read(PyObject *given)
{
    PyObject *parts = PySequence_Tuple(given);
    PyObject *condition = NULL;
    if (!parts)
        return NULL;
    if (PyUnicode_Check(given) || PyTuple_GET_SIZE(parts) != 3)
        PyErr_SetString(PyExc_TypeError, "a condition of where is (label, operation, values)");
    else if (core_word(PyTuple_GET_ITEM(parts, 1), op_words, "the operation of a condition") >= 0)
        condition = Py_BuildValue("(NNN)", core_exact(PyTuple_GET_ITEM(parts, 0), "the label of a condition"),
                                  core_exact(PyTuple_GET_ITEM(parts, 1), "the operation of a condition"),
                                  core_strings(PyTuple_GET_ITEM(parts, 2), "the values of a condition"));
    Py_DECREF(parts);
    return condition;
}

static PyObject *where_read(PyObject *given)
{
    PyObject *conditions = PySequence_Tuple(given);
    PyObject *where = conditions ? PyTuple_New(PyTuple_GET_SIZE(conditions)) : NULL;
    for (Py_ssize_t i = 0; where && i < PyTuple_GET_SIZE(conditions); i++) {
        PyObject *condition = condition_read(PyTuple_GET_ITEM(conditions, i));
        if (condition)
            PyTuple_SET_ITEM(where, i, condition);
        else
            Py_CLEAR(where);
    }
    Py_XDECREF(conditions);
    return where;
}

static PyObject *strings_or_none(PyObject *given, const char *what)
{
    return given ? core_strings(given, what) : PyTuple_New(0);
}

static PyObject *extract_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keys[] = {"names", "kind", "where", "without", "lowest", "by", "reduce", NULL};
    PyObject *names, *kind = NULL, *where = NULL, *without = NULL, *lowest = NULL, *by = NULL, *reduce = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOO:Extract", keys, &names, &kind, &where, &without,
                                     &lowest, &by, &reduce))
        return NULL;
    int kind_word = kind ? core_word(kind, kind_words, "kind") : SGC_KIND_VALUE;
    int reduce_word = kind_word < 0 ? -1
                      : reduce      ? core_word(reduce, reduce_words, "reduce")
                                    : SGC_REDUCE_SUM;
    ExtractObject *self = reduce_word < 0 ? NULL : (ExtractObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->kind = (sgc_kind)kind_word;
    self->reduce = (sgc_reduce)reduce_word;
    if (!(self->names = core_strings(names, "names")) ||
        !(self->where = where ? where_read(where) : PyTuple_New(0)) ||
        !(self->without = strings_or_none(without, "without")) ||
        !(self->lowest = strings_or_none(lowest, "lowest")) ||
        !(self->by = by ? core_exact(by, "by") : PyUnicode_FromString("")))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void extract_dealloc(PyObject *object)
{
    ExtractObject *self = (ExtractObject *)object;
    Py_XDECREF(self->names);
    Py_XDECREF(self->where);
    Py_XDECREF(self->without);
    Py_XDECREF(self->lowest);
    Py_XDECREF(self->by);
    core_free(object);
}

static PyObject *extract_repr(PyObject *object)
{
    ExtractObject *self = (ExtractObject *)object;
    return PyUnicode_FromFormat("Extract(%R, kind='%s', where=%R, without=%R, lowest=%R, by=%R, reduce='%s')",
                                self->names, kind_words[self->kind], self->where, self->without, self->lowest,
                                self->by, reduce_words[self->reduce]);
}

/* ------------------------------------------------------------- for the core */

static int condition_fill(sgc_cond *cond, sgc_str **values, PyObject *condition)
{
    PyObject *strings = PyTuple_GET_ITEM(condition, 2);
    int op = core_word(PyTuple_GET_ITEM(condition, 1), op_words, "the operation of a condition");
    if (op < 0 || core_view(PyTuple_GET_ITEM(condition, 0), "the label of a condition", &cond->label) < 0)
        return -1;
    *values = core_views(strings, "the values of a condition");
    if (!*values)
        return -1;
    cond->op = (sgc_op)(op / 2);
    cond->negate = op % 2;
    cond->values = *values;
    cond->n_values = (size_t)PyTuple_GET_SIZE(strings);
    return 0;
}

static int where_fill(core_extract *extract, PyObject *where)
{
    size_t n = (size_t)PyTuple_GET_SIZE(where);
    extract->where = PyMem_Calloc(n + 1, sizeof *extract->where);
    extract->values = PyMem_Calloc(n + 1, sizeof *extract->values);
    if (!extract->where || !extract->values) {
        PyErr_NoMemory();
        return -1;
    }
    extract->extract.where = extract->where;
    extract->extract.n_where = n;
    for (size_t i = 0; i < n; i++) {
        if (condition_fill(&extract->where[i], &extract->values[i], PyTuple_GET_ITEM(where, (Py_ssize_t)i)) <
            0)
            return -1;
    }
    return 0;
}

int core_extract_init(core_extract *extract, PyObject *object)
{
    ExtractObject *self = (ExtractObject *)object;
    memset(extract, 0, sizeof *extract);
    if (!(extract->names = core_views(self->names, "names")) ||
        !(extract->without = core_views(self->without, "without")) ||
        !(extract->lowest = core_views(self->lowest, "lowest")) || where_fill(extract, self->where) < 0 ||
        core_view(self->by, "by", &extract->extract.by) < 0) {
        core_extract_clear(extract);
        return -1;
    }
    extract->extract.kind = self->kind;
    extract->extract.reduce = self->reduce;
    extract->extract.names = extract->names;
    extract->extract.n_names = (size_t)PyTuple_GET_SIZE(self->names);
    extract->extract.without = extract->without;
    extract->extract.n_without = (size_t)PyTuple_GET_SIZE(self->without);
    extract->extract.lowest = extract->lowest;
    extract->extract.n_lowest = (size_t)PyTuple_GET_SIZE(self->lowest);
    return 0;
}

void core_extract_clear(core_extract *extract)
{
    for (size_t i = 0; extract->values && i < extract->extract.n_where; i++)
        PyMem_Free(extract->values[i]);
    PyMem_Free(extract->values);
    PyMem_Free(extract->where);
    PyMem_Free(extract->names);
    PyMem_Free(extract->without);
    PyMem_Free(extract->lowest);
}

/* --------------------------------------------------------------------- type */

PyDoc_STRVAR(extract_doc,
             "Extract(names, *, kind='value', where=(), without=(), lowest=(), by='', reduce='sum')\n--\n\n"
             "One wanted number of a Plan.\n\n"
             "names: metric names without prefix; the first that a page has is read.\n"
             "kind: 'value' (samples outside histograms and summaries), 'histogram' (families whose\n"
             "    TYPE is histogram or summary; they add up), or 'label' (the values of the label `by`\n"
             "    over all series of the plan's prefixes, each with its number of samples).\n"
             "where: conditions (label, operation, values), all of which hold; the operations are\n"
             "    'is', 'is not', 'starts', 'not starts', 'ends', 'not ends' one of the values.\n"
             "without: labels that only repeat a measurement; of the series that differ in nothing\n"
             "    else the one with the lowest numbers in the labels `lowest` stands.\n"
             "by: one label, for a dict by its values.\n"
             "reduce: 'sum', 'max' or 'mean' over the rest.\n\n"
             "An empty label equals an absent one. Raises TypeError and ValueError. Immutable.");

static PyType_Slot extract_slots[] = {
    {Py_tp_doc, (void *)extract_doc}, {Py_tp_new, extract_new},           {Py_tp_dealloc, extract_dealloc},
    {Py_tp_repr, extract_repr},       {Py_tp_methods, core_view_methods}, {0, NULL},
};

PyType_Spec core_extract_spec = {
    .name = "sglang_collect._core.Extract",
    .basicsize = sizeof(ExtractObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = extract_slots,
};
