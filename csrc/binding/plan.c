/*
 * plan.c - what to read from a page, and what was read:
 *
 *     class Plan:
 *         def __init__(prefixes, extracts)
 *         names: tuple[str, ...]
 *         def fold(data, /, *, format="text", strict=False, limits=None) -> Fold
 *
 *     class Fold(Mapping[str, float | Histogram | dict | None])
 *         n_samples: int
 *         def n_series(name, /) -> int
 *         def reason(name, /) -> str | None
 *         def bounds_differ(name, /) -> bool
 *         flaws: tuple[str, ...]
 *
 * A plan and a fold know slots by number; names are Python's.
 */
#include "binding.h"

/* -------------------------------------------------------------------- Plan */

/* Adds one extract to the plan and its name to names and slots. */
static int plan_add(core_state *state, PlanObject *self, Py_ssize_t index, PyObject *key, PyObject *value)
{
    core_extract extract;
    sgc_error err;

    if (!Py_IS_TYPE(value, state->extract)) {
        PyErr_Format(PyExc_TypeError, "extracts must be a mapping of str to Extract, not to %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    PyObject *name = core_exact(key, "the name of an extract");
    if (!name)
        return -1;
    PyTuple_SET_ITEM(self->names, index, name);
    PyObject *slot = PyLong_FromSsize_t(index);
    int done = slot ? PyDict_SetItem(self->slots, name, slot) : -1;
    Py_XDECREF(slot);
    if (done < 0 || core_extract_init(&extract, value) < 0)
        return -1;
    sgc_status status = sgc_plan_add(self->plan, &extract.extract, &err);
    core_extract_clear(&extract);
    if (status != SGC_OK) {
        core_raise(state, &err);
        return -1;
    }
    return 0;
}

/* Makes the core's plan, with no extract yet. */
static sgc_plan *plan_begin(core_state *state, PyObject *prefixes)
{
    sgc_plan *plan = NULL;
    sgc_error err;
    PyObject *strings = core_strings(prefixes, "prefixes");
    sgc_str *views = strings ? core_views(strings, "prefixes") : NULL;
    if (views && sgc_plan_new(views, (size_t)PyTuple_GET_SIZE(strings), &plan, &err) != SGC_OK)
        core_raise(state, &err);
    PyMem_Free(views);
    Py_XDECREF(strings);
    return plan;
}

static int plan_fill(core_state *state, PlanObject *self, PyObject *extracts)
{
    PyObject *items = core_items(extracts, "extracts");
    Py_ssize_t n = items ? PyList_GET_SIZE(items) : 0;
    int done = -1;
    if (items && (self->names = PyTuple_New(n)) && (self->slots = PyDict_New()))
        done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < n; i++) {
        PyObject *item = PyList_GET_ITEM(items, i), *key, *value;
        done = PyArg_ParseTuple(item, "OO", &key, &value) ? plan_add(state, self, i, key, value) : -1;
    }
    Py_XDECREF(items);
    return done;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"prefixes", "extracts", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *prefixes, *extracts;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Plan", names, &prefixes, &extracts))
        return NULL;
    PlanObject *self = (PlanObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->plan = plan_begin(state, prefixes);
    if (!self->plan || plan_fill(state, self, extracts) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object)
{
    PlanObject *self = (PlanObject *)object;
    sgc_plan_free(self->plan);
    Py_XDECREF(self->names);
    Py_XDECREF(self->slots);
    core_free(object);
}

static PyObject *plan_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Plan: %zd extracts>", PyTuple_GET_SIZE(((PlanObject *)object)->names));
}

static PyObject *plan_names(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((PlanObject *)object)->names);
}

sgc_fold *core_fold_input(core_state *state, const sgc_plan *plan, const core_input *input)
{
    sgc_fold *fold = NULL;
    sgc_error err;

    PyThreadState *gil = PyEval_SaveThread();
    sgc_status status = sgc_plan_fold(plan, input->data, input->len, &input->options, &fold, &err);
    PyEval_RestoreThread(gil);
    if (status != SGC_OK)
        core_raise(state, &err);
    return fold;
}

PyDoc_STRVAR(plan_fold_doc, "fold($self, data, /, *, format='text', strict=False, limits=None)\n--\n\n"
                            "Reads a page and fills every slot of the plan, without keeping its samples.\n\n"
                            "data, format, strict and limits are those of parse(), and so are the errors. A\n"
                            "Page is read again as it was read before, whatever the keywords say.");

static PyObject *plan_fold(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "format", "strict", "limits", NULL};
    core_state *state = core_state_of(object);
    PlanObject *self = (PlanObject *)object;
    PyObject *data, *format = NULL, *limits = NULL;
    core_input input;
    sgc_fold *fold;
    int strict = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OpO:fold", names, &data, &format, &strict, &limits))
        return NULL;
    if (Py_IS_TYPE(data, state->page)) {
        fold = core_fold_input(state, self->plan, &((PageObject *)data)->input);
    } else {
        if (core_input_init(state, &input, data, format, strict, limits) < 0)
            return NULL;
        fold = core_fold_input(state, self->plan, &input);
        core_input_clear(&input);
    }
    return fold ? core_fold_new(self, fold) : NULL;
}

PyDoc_STRVAR(plan_doc, "Plan(prefixes, extracts)\n--\n\n"
                       "Which numbers a page is read for, compiled.\n\n"
                       "prefixes: spellings tried before every name, in order ('' for none).\n"
                       "extracts: mapping of names, as the fold will know them, to Extract.\n\n"
                       "Raises TypeError and ValueError. Immutable.");

static PyMethodDef plan_methods[] = {
    {"fold", (PyCFunction)(void (*)(void))plan_fold, METH_VARARGS | METH_KEYWORDS, plan_fold_doc},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef plan_getset[] = {
    {"names", plan_names, NULL, PyDoc_STR("tuple[str, ...]: names of the extracts, in order."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, (void *)plan_doc},
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_repr, plan_repr},
    {Py_tp_methods, plan_methods},
    {Py_tp_getset, plan_getset},
    {0, NULL},
};

PyType_Spec core_plan_spec = {
    .name = "sglang_collect._core.Plan",
    .basicsize = sizeof(PlanObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = plan_slots,
};

/* -------------------------------------------------------------------- Fold */

typedef struct FoldObject {
    PyObject ob_base;
    PlanObject *plan;
    sgc_fold *fold;
    size_t n;
    PyObject **values; /* by slot; NULL until asked for */
} FoldObject;

PyObject *core_fold_new(PlanObject *plan, sgc_fold *fold)
{
    PyTypeObject *type = core_state_of((PyObject *)plan)->fold;
    FoldObject *self = (FoldObject *)type->tp_alloc(type, 0);
    if (!self) {
        sgc_fold_free(fold);
        return NULL;
    }
    self->plan = (PlanObject *)Py_NewRef(plan);
    self->fold = fold;
    self->n = sgc_fold_n_slots(fold);
    self->values = PyMem_Calloc(self->n + 1, sizeof *self->values);
    if (!self->values) {
        PyErr_NoMemory();
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int fold_traverse(PyObject *object, visitproc visit, void *arg)
{
    FoldObject *self = (FoldObject *)object;
    Py_VISIT(Py_TYPE(object));
    for (size_t i = 0; self->values && i < self->n; i++)
        Py_VISIT(self->values[i]);
    return 0;
}

static int fold_clear(PyObject *object)
{
    FoldObject *self = (FoldObject *)object;
    for (size_t i = 0; self->values && i < self->n; i++)
        Py_CLEAR(self->values[i]);
    return 0;
}

static void fold_dealloc(PyObject *object)
{
    FoldObject *self = (FoldObject *)object;
    PyObject_GC_UnTrack(object);
    fold_clear(object);
    PyMem_Free(self->values);
    sgc_fold_free(self->fold);
    Py_XDECREF(self->plan);
    core_free(object);
}

/* Index of the slot of that name; -1 with KeyError. */
static Py_ssize_t fold_index(PyObject *object, PyObject *name)
{
    PyObject *slot = PyDict_GetItemWithError(((FoldObject *)object)->plan->slots, name);
    if (slot)
        return PyLong_AsSsize_t(slot);
    if (!PyErr_Occurred())
        core_raise_key(name);
    return -1;
}

static const sgc_slot *fold_slot(PyObject *object, PyObject *name)
{
    Py_ssize_t index = fold_index(object, name);
    return index < 0 ? NULL : sgc_fold_slot(((FoldObject *)object)->fold, (size_t)index);
}

static PyObject *map_value(core_state *state, const sgc_slot *slot)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < slot->n_entries; i++) {
        const sgc_entry *entry = &slot->entries[i];
        PyObject *key = core_text(entry->key);
        PyObject *value =
            entry->hist ? core_histogram_new(state, entry->hist) : PyFloat_FromDouble(entry->value);
        if (!key || !value || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *slot_value(core_state *state, const sgc_slot *slot)
{
    switch (slot->kind) {
    case SGC_SLOT_VALUE:
        return PyFloat_FromDouble(slot->value);
    case SGC_SLOT_HIST:
        return core_histogram_new(state, slot->hist);
    case SGC_SLOT_MAP:
        return map_value(state, slot);
    default:
        Py_RETURN_NONE;
    }
}

static PyObject *fold_subscript(PyObject *object, PyObject *name)
{
    FoldObject *self = (FoldObject *)object;
    Py_ssize_t index = fold_index(object, name);
    if (index < 0)
        return NULL;
    PyObject *value = core_kept(object, &self->values[index]);
    if (value)
        return value;
    const sgc_slot *slot = sgc_fold_slot(self->fold, (size_t)index);
    return core_keep(object, &self->values[index], slot_value(core_state_of(object), slot));
}

static int fold_contains(PyObject *object, PyObject *name)
{
    return PyDict_Contains(((FoldObject *)object)->plan->slots, name);
}

static Py_ssize_t fold_len(PyObject *object)
{
    return (Py_ssize_t)((FoldObject *)object)->n;
}

static PyObject *fold_iter(PyObject *object)
{
    return PyObject_GetIter(((FoldObject *)object)->plan->names);
}

static PyObject *fold_repr(PyObject *object)
{
    FoldObject *self = (FoldObject *)object;
    PyObject *n_samples = PyLong_FromUnsignedLongLong(sgc_fold_n_samples(self->fold));
    PyObject *text =
        n_samples ? PyUnicode_FromFormat("<Fold: %zu slots from %R samples>", self->n, n_samples) : NULL;
    Py_XDECREF(n_samples);
    return text;
}

static PyObject *fold_n_samples(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(sgc_fold_n_samples(((FoldObject *)object)->fold));
}

static PyObject *fold_n_series(PyObject *object, PyObject *name)
{
    const sgc_slot *slot = fold_slot(object, name);
    return slot ? PyLong_FromSize_t(slot->n_series) : NULL;
}

static PyObject *fold_reason(PyObject *object, PyObject *name)
{
    const sgc_slot *slot = fold_slot(object, name);
    if (!slot)
        return NULL;
    return slot->reason ? core_text_z(slot->reason) : Py_NewRef(Py_None);
}

static PyObject *fold_bounds_differ(PyObject *object, PyObject *name)
{
    const sgc_slot *slot = fold_slot(object, name);
    return slot ? PyBool_FromLong(slot->bounds_differ) : NULL;
}

/* The names of flawed slots, of which there mostly is none. */
static PyObject *fold_flaws(PyObject *object, void *unused)
{
    FoldObject *self = (FoldObject *)object;
    PyObject *list = PyList_New(0), *tuple;

    (void)unused;
    for (size_t i = 0; list && i < self->n; i++) {
        const sgc_slot *slot = sgc_fold_slot(self->fold, i);
        if ((slot->reason || slot->bounds_differ) &&
            PyList_Append(list, PyTuple_GET_ITEM(self->plan->names, (Py_ssize_t)i)) < 0)
            Py_CLEAR(list);
    }
    tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

PyDoc_STRVAR(fold_doc, "What a Plan found on one page: a mapping of the names of its extracts.\n\n"
                       "Each slot is a float, a Histogram, a dict of either (with `by`), or None where\n"
                       "the page has no such series or their values make no number; see reason().\n"
                       "Values are made when first asked for. Unknown names raise KeyError.");

static PyMethodDef fold_methods[] = {
    {"n_series", fold_n_series, METH_O,
     PyDoc_STR("n_series($self, name, /)\n--\n\nint: series that were combined, repeats excluded.")},
    {"reason", fold_reason, METH_O,
     PyDoc_STR("reason($self, name, /)\n--\n\nstr | None: why it is absent though series were there.")},
    {"bounds_differ", fold_bounds_differ, METH_O,
     PyDoc_STR("bounds_differ($self, name, /)\n--\n\nbool: histograms of different bounds were merged.")},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fold_getset[] = {
    {"n_samples", fold_n_samples, NULL, PyDoc_STR("int: samples on the whole page."), NULL},
    {"flaws", fold_flaws, NULL,
     PyDoc_STR("tuple[str, ...]: slots that have a reason() or whose bounds_differ()."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot fold_slots[] = {
    {Py_tp_doc, (void *)fold_doc},
    {Py_tp_dealloc, fold_dealloc},
    {Py_tp_traverse, fold_traverse},
    {Py_tp_clear, fold_clear},
    {Py_tp_repr, fold_repr},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_iter, fold_iter},
    {Py_tp_methods, fold_methods},
    {Py_tp_getset, fold_getset},
    {Py_sq_contains, fold_contains},
    {Py_mp_length, fold_len},
    {Py_mp_subscript, fold_subscript},
    {0, NULL},
};

PyType_Spec core_fold_spec = {
    .name = "sglang_collect._core.Fold",
    .basicsize = sizeof(FoldObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = fold_slots,
};
