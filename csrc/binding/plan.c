/*
 * plan.c - what to read from a page, and what was read:
 *
 *     class Plan:
 *         def __init__(prefixes, extracts, formulas={})
 *         names: tuple[str, ...]
 *         def fold(data, /, *, format="text", strict=False, limits=None) -> Fold
 *
 *     class Fold(Mapping[str, float | Histogram | dict | None])
 *         n_samples: int
 *         found_nothing: bool
 *         def n_series(name, /) -> int
 *         def reason(name, /) -> str | None
 *         def labels(name, /) -> tuple[str, ...]
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

/* Names of the extracts, then of the formulas. */
static int plan_names_begin(PlanObject *self, Py_ssize_t n)
{
    return (self->names = PyTuple_New(n)) && (self->slots = PyDict_New()) ? 0 : -1;
}

static int plan_fill(core_state *state, PlanObject *self, PyObject *extracts)
{
    int done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < PyList_GET_SIZE(extracts); i++) {
        PyObject *key, *value;
        done = PyArg_ParseTuple(PyList_GET_ITEM(extracts, i), "OO", &key, &value)
                   ? plan_add(state, self, i, key, value)
                   : -1;
    }
    return done;
}

/* Adds the name of a formula, which comes behind all slots. */
static int formula_name(PlanObject *self, Py_ssize_t index, PyObject *key)
{
    PyObject *name = core_exact(key, "the name of a formula");
    if (!name)
        return -1;
    PyTuple_SET_ITEM(self->names, index, name);
    int known = PyDict_Contains(self->slots, name);
    if (known)
        return known < 0 ? -1 : (PyErr_Format(PyExc_ValueError, "%R names an extract too", name), -1);
    PyObject *slot = PyLong_FromSsize_t(index);
    int done = slot ? PyDict_SetItem(self->slots, name, slot) : -1;
    Py_XDECREF(slot);
    return done;
}

/* Before any of their names is known: a formula is made of extracts alone. */
static int plan_compile(core_state *state, PlanObject *self, PyObject *formulas)
{
    size_t n = (size_t)PyList_GET_SIZE(formulas);
    if (!(self->formulas = PyMem_Calloc(n + 1, sizeof(sgc_formula *)))) {
        PyErr_NoMemory();
        return -1;
    }
    while (self->n_formulas < n) {
        PyObject *key, *steps;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(formulas, (Py_ssize_t)self->n_formulas), "OO", &key, &steps))
            return -1;
        sgc_formula *formula = core_formula_new(state, self->slots, steps);
        if (!formula)
            return -1;
        self->formulas[self->n_formulas++] = formula;
    }
    return 0;
}

static int plan_name_formulas(PlanObject *self, PyObject *formulas)
{
    Py_ssize_t first = PyTuple_GET_SIZE(self->names) - PyList_GET_SIZE(formulas);
    int done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < PyList_GET_SIZE(formulas); i++) {
        PyObject *key, *steps;
        done = PyArg_ParseTuple(PyList_GET_ITEM(formulas, i), "OO", &key, &steps)
                   ? formula_name(self, first + i, key)
                   : -1;
    }
    return done;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"prefixes", "extracts", "formulas", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *prefixes, *given, *given_formulas = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:Plan", names, &prefixes, &given, &given_formulas))
        return NULL;
    PlanObject *self = (PlanObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->plan = plan_begin(state, prefixes);
    PyObject *extracts = self->plan ? core_items(given, "extracts") : NULL;
    PyObject *formulas = NULL;
    if (extracts)
        formulas = given_formulas ? core_items(given_formulas, "formulas") : PyList_New(0);
    if (!formulas || plan_names_begin(self, PyList_GET_SIZE(extracts) + PyList_GET_SIZE(formulas)) < 0 ||
        plan_fill(state, self, extracts) < 0 || plan_compile(state, self, formulas) < 0 ||
        plan_name_formulas(self, formulas) < 0)
        Py_CLEAR(self);
    Py_XDECREF(extracts);
    Py_XDECREF(formulas);
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object)
{
    PlanObject *self = (PlanObject *)object;
    sgc_plan_free(self->plan);
    for (size_t i = 0; i < self->n_formulas; i++)
        sgc_formula_free(self->formulas[i]);
    PyMem_Free(self->formulas);
    Py_XDECREF(self->names);
    Py_XDECREF(self->slots);
    core_free(object);
}

static PyObject *plan_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<Plan: %zu extracts>", sgc_plan_n_extracts(((PlanObject *)object)->plan));
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

PyDoc_STRVAR(plan_doc, "Plan(prefixes, extracts, formulas={})\n--\n\n"
                       "Which numbers a page is read for, compiled.\n\n"
                       "prefixes: spellings tried before every name, in order ('' for none).\n"
                       "extracts: mapping of names, as the fold will know them, to Extract.\n"
                       "formulas: mapping of further names to numbers made of extracts, each a tuple of\n"
                       "    steps: ((\"number\", \"a\"), (\"number\", \"b\"), (\"ratio\",)).\n\n"
                       "Raises TypeError and ValueError. Immutable.");

static PyMethodDef plan_methods[] = {
    {"fold", (PyCFunction)(void (*)(void))plan_fold, METH_VARARGS | METH_KEYWORDS, plan_fold_doc},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef plan_getset[] = {
    {"names", plan_names, NULL,
     PyDoc_STR("tuple[str, ...]: names of the extracts and the formulas, in order."), NULL},
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
    size_t n;          /* slots, and formulas behind them */
    PyObject **values; /* by index; NULL until asked for */
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
    self->n = sgc_fold_n_slots(fold) + plan->n_formulas;
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

/* Index of the slot or the formula of that name; -1 with KeyError. */
static Py_ssize_t fold_index(PyObject *object, PyObject *name)
{
    PyObject *slot = PyDict_GetItemWithError(((FoldObject *)object)->plan->slots, name);
    if (slot)
        return PyLong_AsSsize_t(slot);
    if (!PyErr_Occurred())
        core_raise_key(name);
    return -1;
}

/* A formula has no series. */
static const sgc_slot *fold_slot(PyObject *object, PyObject *name)
{
    static const sgc_slot none = {.kind = SGC_SLOT_ABSENT};
    const sgc_fold *fold = ((FoldObject *)object)->fold;
    Py_ssize_t index = fold_index(object, name);
    if (index < 0)
        return NULL;
    return (size_t)index < sgc_fold_n_slots(fold) ? sgc_fold_slot(fold, (size_t)index) : &none;
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

static void look(const FoldObject *self, size_t index, sgc_slot *slot)
{
    size_t n_slots = sgc_fold_n_slots(self->fold);
    if (index < n_slots) {
        *slot = *sgc_fold_slot(self->fold, index);
        return;
    }
    sgc_number number = sgc_formula_value(self->plan->formulas[index - n_slots], self->fold);
    *slot = (sgc_slot){.kind = number.there ? SGC_SLOT_VALUE : SGC_SLOT_ABSENT, .value = number.value};
}

int core_fold_look(PyObject *object, PyObject *name, sgc_slot *slot)
{
    Py_ssize_t index = fold_index(object, name);
    if (index < 0)
        return -1;
    look((FoldObject *)object, (size_t)index, slot);
    return 0;
}

int core_fold_look_at(PyObject *object, const PlanObject *plan, Py_ssize_t number, sgc_slot *slot)
{
    if (((FoldObject *)object)->plan != plan)
        return core_fold_look(object, PyTuple_GET_ITEM(plan->names, number), slot);
    look((FoldObject *)object, (size_t)number, slot);
    return 0;
}

static PyObject *value_at(FoldObject *self, size_t index)
{
    size_t n_slots = sgc_fold_n_slots(self->fold);
    if (index < n_slots)
        return slot_value(core_state_of((PyObject *)self), sgc_fold_slot(self->fold, index));
    sgc_number number = sgc_formula_value(self->plan->formulas[index - n_slots], self->fold);
    return number.there ? PyFloat_FromDouble(number.value) : Py_NewRef(Py_None);
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
    return core_keep(object, &self->values[index], value_at(self, (size_t)index));
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
    PyObject *text = n_samples ? PyUnicode_FromFormat("<Fold: %zu slots from %R samples>",
                                                      sgc_fold_n_slots(self->fold), n_samples)
                               : NULL;
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

/* The keys of a map, sorted. */
static PyObject *fold_labels(PyObject *object, PyObject *name)
{
    const sgc_slot *slot = fold_slot(object, name);
    PyObject *list = slot ? PyList_New(0) : NULL, *tuple;

    for (size_t i = 0; list && i < slot->n_entries; i++) {
        PyObject *key = slot->entries[i].key.len ? core_text(slot->entries[i].key) : Py_NewRef(Py_None);
        if (!key || (key != Py_None && PyList_Append(list, key) < 0))
            Py_CLEAR(list);
        Py_XDECREF(key);
    }
    if (list && PyList_Sort(list) < 0)
        Py_CLEAR(list);
    tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

static PyObject *fold_bounds_differ(PyObject *object, PyObject *name)
{
    const sgc_slot *slot = fold_slot(object, name);
    return slot ? PyBool_FromLong(slot->bounds_differ) : NULL;
}

static PyObject *fold_found_nothing(PyObject *object, void *unused)
{
    const sgc_fold *fold = ((FoldObject *)object)->fold;
    bool nothing = sgc_fold_n_samples(fold) > 0;

    (void)unused;
    for (size_t i = 0; nothing && i < sgc_fold_n_slots(fold); i++)
        nothing = sgc_fold_slot(fold, i)->n_series == 0;
    return PyBool_FromLong(nothing);
}

/* The names of flawed slots, of which there mostly is none. */
static PyObject *fold_flaws(PyObject *object, void *unused)
{
    FoldObject *self = (FoldObject *)object;
    PyObject *list = PyList_New(0), *tuple;

    (void)unused;
    for (size_t i = 0; list && i < sgc_fold_n_slots(self->fold); i++) {
        const sgc_slot *slot = sgc_fold_slot(self->fold, i);
        if ((slot->reason || slot->bounds_differ) &&
            PyList_Append(list, PyTuple_GET_ITEM(self->plan->names, (Py_ssize_t)i)) < 0)
            Py_CLEAR(list);
    }
    tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

PyDoc_STRVAR(fold_doc,
             "What a Plan found on one page: a mapping of the names of its extracts and formulas.\n\n"
             "Each slot is a float, a Histogram, a dict of either (with `by`), or None where\n"
             "the page has no such series or their values make no number; see reason().\n"
             "A formula is a float or None, and has no series. Values are made when first\n"
             "asked for. Unknown names raise KeyError.");

static PyMethodDef fold_methods[] = {
    {"n_series", fold_n_series, METH_O,
     PyDoc_STR("n_series($self, name, /)\n--\n\nint: series that were combined, repeats excluded.")},
    {"reason", fold_reason, METH_O,
     PyDoc_STR("reason($self, name, /)\n--\n\nstr | None: why it, or an entry of it, is absent though series "
               "were there.")},
    {"labels", fold_labels, METH_O,
     PyDoc_STR("labels($self, name, /)\n--\n\n"
               "tuple[str, ...]: the keys of a dict but '', sorted; empty where there is none.")},
    {"bounds_differ", fold_bounds_differ, METH_O,
     PyDoc_STR("bounds_differ($self, name, /)\n--\n\nbool: histograms of different bounds were merged.")},
    {CORE_NO_PICKLE},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fold_getset[] = {
    {"n_samples", fold_n_samples, NULL, PyDoc_STR("int: samples on the whole page."), NULL},
    {"found_nothing", fold_found_nothing, NULL,
     PyDoc_STR("bool: the page has samples, and none of them is of any slot."), NULL},
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
