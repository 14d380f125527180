/*
 * formula.c - formulas of a plan, from what Python has for one: a tuple of
 * steps, each a tuple of its word and what it takes:
 *
 *     (("number", "a"), ("number", "b"), ("ratio",))
 */
#include "binding.h"

/* The index of the slot of that name, among those the formula may use. */
static int slot_read(PyObject *slots, PyObject *name, size_t *slot)
{
    PyObject *index = PyDict_GetItemWithError(slots, name);
    if (index) {
        *slot = (size_t)PyLong_AsSsize_t(index);
        return 0;
    }
    if (!PyErr_Occurred())
        core_raise_key(name);
    return -1;
}

static int count_read(PyObject *given, size_t *n)
{
    Py_ssize_t count = PyLong_AsSsize_t(given);
    *n = (size_t)count;
    if (count < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a step takes no negative number of others");
    return count < 0 ? -1 : 0;
}

static int step_read(PyObject *slots, PyObject *given, sgc_step *step)
{
    static const Py_ssize_t sizes[] = {
        [SGC_TAKES_NONE] = 1,   [SGC_TAKES_SLOT] = 2,  [SGC_TAKES_TEXT] = 3,
        [SGC_TAKES_NUMBER] = 2, [SGC_TAKES_COUNT] = 2,
    };
    if (!PyTuple_CheckExact(given) || PyTuple_GET_SIZE(given) < 1) {
        PyErr_SetString(PyExc_TypeError, "a step of a formula must be a tuple of its word and what it takes");
        return -1;
    }
    int kind = core_word(PyTuple_GET_ITEM(given, 0), sgc_step_words(), "a step of a formula");
    if (kind < 0)
        return -1;
    sgc_takes takes = sgc_step_takes((sgc_step_kind)kind);
    if (PyTuple_GET_SIZE(given) != sizes[takes]) {
        PyErr_Format(PyExc_TypeError, "step %R takes %zd more", PyTuple_GET_ITEM(given, 0), sizes[takes] - 1);
        return -1;
    }
    *step = (sgc_step){.kind = (sgc_step_kind)kind, .text = {"", 0}};
    switch (takes) {
    case SGC_TAKES_TEXT:
        if (core_view(PyTuple_GET_ITEM(given, 2), "the text of a step", &step->text) < 0)
            return -1;
        return slot_read(slots, PyTuple_GET_ITEM(given, 1), &step->slot);
    case SGC_TAKES_SLOT:
        return slot_read(slots, PyTuple_GET_ITEM(given, 1), &step->slot);
    case SGC_TAKES_COUNT:
        return count_read(PyTuple_GET_ITEM(given, 1), &step->n);
    case SGC_TAKES_NUMBER:
        step->number = PyFloat_AsDouble(PyTuple_GET_ITEM(given, 1));
        return PyErr_Occurred() ? -1 : 0;
    default:
        return 0;
    }
}

sgc_formula *core_formula_new(core_state *state, PyObject *slots, PyObject *given)
{
    if (!PyTuple_CheckExact(given)) {
        PyErr_Format(PyExc_TypeError, "a formula must be a tuple of steps, not %.100s",
                     Py_TYPE(given)->tp_name);
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(given);
    sgc_step *steps = PyMem_New(sgc_step, (size_t)n + 1);
    sgc_formula *formula = NULL;
    sgc_error err;
    if (!steps) {
        PyErr_NoMemory();
        return NULL;
    }
    int done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < n; i++)
        done = step_read(slots, PyTuple_GET_ITEM(given, i), &steps[i]);
    if (done == 0 && sgc_formula_new(steps, (size_t)n, &formula, &err) != SGC_OK)
        core_raise(state, &err);
    PyMem_Free(steps);
    return formula;
}
