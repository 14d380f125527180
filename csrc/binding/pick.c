/*
 * pick.c - many values of a fold at once, as the numbers that a model has:
 *
 *     def pick(fields, fold, /) -> dict[str, Any]
 *
 * The same in Python takes a call or two for each value, which is most of what
 * it costs to tell of a page.
 */
#include "binding.h"

#include <math.h>

bool core_is_whole(double value)
{
    const double limit = 9223372036854775808.0; /* 2^63 */
    return value >= -limit && value < limit;
}

PyObject *core_nearest(double value)
{
    if (!core_is_whole(value))
        Py_RETURN_NONE;
    return PyLong_FromLongLong((long long)nearbyint(value));
}

/* What stands for a number of a slot, without an object of its own in between. */
static PyObject *number_of_slot(const sgc_slot *slot, bool whole)
{
    if (slot->kind != SGC_SLOT_VALUE || !(whole ? core_is_whole(slot->value) : isfinite(slot->value)))
        Py_RETURN_NONE;
    return whole ? core_nearest(slot->value) : PyFloat_FromDouble(slot->value);
}

/* The number that stands for a value; whole: an int. */
static PyObject *number(PyObject *value, bool whole)
{
    double plain;
    if (!PyFloat_CheckExact(value))
        return Py_NewRef(value);
    plain = PyFloat_AS_DOUBLE(value);
    if (whole)
        return core_nearest(plain);
    return isfinite(plain) ? Py_NewRef(value) : Py_NewRef(Py_None);
}

static PyObject *numbers_locked(PyObject *values, bool whole)
{
    PyObject *dict = PyDict_New(), *key, *value;
    Py_ssize_t place = 0;
    bool has_key = false;
    while (dict && PyDict_Next(values, &place, &key, &value)) {
        if (PyUnicode_CheckExact(key) && PyUnicode_GET_LENGTH(key) == 0)
            continue;
        has_key = true;
        Py_INCREF(key); /* its own comparing may change the dict */
        PyObject *made = number(value, whole);
        if (!made || (made != Py_None && PyDict_SetItem(dict, key, made) < 0))
            Py_CLEAR(dict);
        Py_XDECREF(made);
        Py_DECREF(key);
    }
    if (dict && !has_key)
        Py_SETREF(dict, Py_NewRef(Py_None));
    return dict;
}

/* A dict of the numbers of a dict, without those that no number stands for and the
 * one without a key; None where there is no other. */
static PyObject *numbers(PyObject *values, bool whole)
{
    PyObject *dict;
    Py_BEGIN_CRITICAL_SECTION(values);
    dict = numbers_locked(values, whole);
    Py_END_CRITICAL_SECTION();
    return dict;
}

PyObject *core_picked(core_state *state, PyObject *fold, PyObject *slot, PyObject *whole)
{
    sgc_slot found = {.kind = SGC_SLOT_HIST};
    if (slot == Py_None)
        Py_RETURN_NONE;
    if (Py_IS_TYPE(fold, state->fold) && core_fold_look(fold, slot, &found) < 0)
        return NULL;
    if (found.kind == SGC_SLOT_VALUE || found.kind == SGC_SLOT_ABSENT)
        return number_of_slot(&found, whole == Py_True);
    PyObject *value = PyObject_GetItem(fold, slot), *made = NULL;
    if (value)
        made = PyDict_CheckExact(value) ? numbers(value, whole == Py_True) : number(value, whole == Py_True);
    Py_XDECREF(value);
    return made;
}

PyObject *core_pick(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = PyModule_GetState(module);
    if (n_args != 2 || !PyTuple_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "pick() takes a tuple of fields and a fold");
        return NULL;
    }
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict && i < PyTuple_GET_SIZE(args[0]); i++) {
        PyObject *field = PyTuple_GET_ITEM(args[0], i), *made = NULL;
        if (!PyTuple_CheckExact(field) || PyTuple_GET_SIZE(field) != 3)
            PyErr_SetString(PyExc_TypeError, "a field is a tuple of name, slot and whole");
        else
            made = core_picked(state, args[1], PyTuple_GET_ITEM(field, 1), PyTuple_GET_ITEM(field, 2));
        if (!made || PyDict_SetItem(dict, PyTuple_GET_ITEM(field, 0), made) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(made);
    }
    return dict;
}
