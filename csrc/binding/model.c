/*
 * model.c - objects of pydantic models, made of values that are what their fields
 * want, so that there is nothing to validate:
 *
 *     def build(mould, values, private, /) -> model
 *     def build_groups(groups, fold, /) -> dict[str, Any]
 *     def add_fields(object, values, /) -> None
 *
 * What pydantic's own model_construct does takes more than to read a page.
 */
#include "binding.h"

enum { N_SLOTS = sizeof(((core_state *)NULL)->model_slots) / sizeof(PyObject *) };

int core_model_init(core_state *state)
{
    static const char *const names[N_SLOTS] = {"__dict__", "__pydantic_fields_set__", "__pydantic_extra__",
                                               "__pydantic_private__"};
    for (int i = 0; i < N_SLOTS; i++)
        if (!(state->model_slots[i] = PyUnicode_InternFromString(names[i])))
            return -1;
    state->no_args = PyTuple_New(0);
    return state->no_args ? 0 : -1;
}

/* An object of the class, of which nothing is set. */
static PyObject *blank(core_state *state, PyObject *model)
{
    newfunc make = PyType_Check(model) ? ((PyTypeObject *)model)->tp_new : NULL;
    if (!make) {
        PyErr_SetString(PyExc_TypeError, "a model must be a class that objects can be made of");
        return NULL;
    }
    return make((PyTypeObject *)model, state->no_args, NULL);
}

/* As object.__setattr__ does, since the class would validate. Python 3.11 says that there
 * is no __dict__ where there is no memory for the empty one that ours replaces. */
static int set(PyObject *object, PyObject *name, PyObject *value)
{
    int done = PyObject_GenericSetAttr(object, name, value);
    if (done < 0 && PyDict_CheckExact(value) && Py_TYPE(object)->tp_dictoffset &&
        PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_NoMemory();
    return done;
}

/* `slots` in the order of core_state.model_slots; NULL: one that could not be made. */
static PyObject *build(core_state *state, PyObject *model, PyObject *const *slots)
{
    PyObject *object = NULL;
    bool whole = true;
    for (int i = 0; i < N_SLOTS; i++)
        whole = whole && slots[i];
    if (whole)
        object = blank(state, model);
    for (int i = 0; object && i < N_SLOTS; i++)
        if (set(object, state->model_slots[i], slots[i]) < 0)
            Py_CLEAR(object);
    return object;
}

/* A copy of the dict in which each of the names has its value. */
static PyObject *filled(PyObject *fields, PyObject *names, PyObject *values)
{
    PyObject *dict = PyDict_Copy(fields);
    for (Py_ssize_t i = 0; dict && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(dict, PyTuple_GET_ITEM(names, i), PyTuple_GET_ITEM(values, i)) < 0)
            Py_CLEAR(dict);
    return dict;
}

static bool is_mould(PyObject *mould)
{
    return PyTuple_CheckExact(mould) && PyTuple_GET_SIZE(mould) == 4 &&
           PyDict_CheckExact(PyTuple_GET_ITEM(mould, 1)) && PyTuple_CheckExact(PyTuple_GET_ITEM(mould, 2));
}

PyObject *core_build(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = PyModule_GetState(module);
    if (n_args != 3 || !is_mould(args[0]) || !PyTuple_CheckExact(args[1]) ||
        PyTuple_GET_SIZE(args[1]) != PyTuple_GET_SIZE(PyTuple_GET_ITEM(args[0], 2))) {
        PyErr_SetString(PyExc_TypeError,
                        "build() takes a mould of model, fields, names and extra, a value for each name, "
                        "and what is private");
        return NULL;
    }
    PyObject *names = PyTuple_GET_ITEM(args[0], 2);
    PyObject *dict = filled(PyTuple_GET_ITEM(args[0], 1), names, args[1]), *set = PySet_New(names);
    PyObject *object = build(state, PyTuple_GET_ITEM(args[0], 0),
                             (PyObject *[]){dict, set, PyTuple_GET_ITEM(args[0], 3), args[2]});
    Py_XDECREF(dict);
    Py_XDECREF(set);
    return object;
}

/* ------------------------------------------------------------------ groups */

/* Puts one field of the fold into the group's dict; or its slot into `absent`, and takes it out of the set.
 */
static int fill(core_state *state, PyObject *fold, PyObject *field, PyObject *dict, PyObject *set,
                PyObject *absent)
{
    if (!PyTuple_CheckExact(field) || PyTuple_GET_SIZE(field) != 3) {
        PyErr_SetString(PyExc_TypeError, "a field is a tuple of name, slot and whole");
        return -1;
    }
    PyObject *name = PyTuple_GET_ITEM(field, 0), *slot = PyTuple_GET_ITEM(field, 1);
    PyObject *number = core_picked(state, fold, slot, PyTuple_GET_ITEM(field, 2));
    int done = -1;
    if (number == Py_None)
        done = PySet_Discard(set, name) < 0 ? -1 : PyList_Append(absent, slot);
    else if (number)
        done = PyDict_SetItem(dict, name, number);
    Py_XDECREF(number);
    return done;
}

/* `group` is (name, model, defaults, fields), where all fields have a default. */
static PyObject *build_group(core_state *state, PyObject *fold, PyObject *group, PyObject *absent)
{
    PyObject *defaults = PyTuple_GET_ITEM(group, 2), *dict = PyDict_Copy(defaults),
             *set = PySet_New(defaults);
    PyObject *fields = PyTuple_GET_ITEM(group, 3), *object = NULL;
    int done = dict && set ? 0 : -1;
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(fields); i++)
        done = fill(state, fold, PyTuple_GET_ITEM(fields, i), dict, set, absent);
    if (done == 0)
        object = build(state, PyTuple_GET_ITEM(group, 1), (PyObject *[]){dict, set, Py_None, Py_None});
    Py_XDECREF(dict);
    Py_XDECREF(set);
    return object;
}

static bool is_group(PyObject *group)
{
    return PyTuple_CheckExact(group) && PyTuple_GET_SIZE(group) == 4 &&
           PyDict_CheckExact(PyTuple_GET_ITEM(group, 2)) && PyTuple_CheckExact(PyTuple_GET_ITEM(group, 3));
}

static int add_group(core_state *state, PyObject *fold, PyObject *group, PyObject *made, PyObject *absent)
{
    if (!is_group(group)) {
        PyErr_SetString(PyExc_TypeError, "a group is a tuple of name, model, defaults and fields");
        return -1;
    }
    PyObject *object = build_group(state, fold, group, absent);
    int done = object ? PyDict_SetItem(made, PyTuple_GET_ITEM(group, 0), object) : -1;
    Py_XDECREF(object);
    return done;
}

PyObject *core_build_groups(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = PyModule_GetState(module);
    if (n_args != 2 || !PyTuple_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "build_groups() takes a tuple of groups and a fold");
        return NULL;
    }
    PyObject *made = PyDict_New(), *absent = PyList_New(0);
    int done = made && absent ? 0 : -1;
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(args[0]); i++)
        done = add_group(state, args[1], PyTuple_GET_ITEM(args[0], i), made, absent);
    if (done == 0)
        done = PyDict_SetItemString(made, "absent", absent);
    if (done < 0)
        Py_CLEAR(made);
    Py_XDECREF(absent);
    return made;
}

/* ------------------------------------------------------------ fields made late */

static int add_locked(PyObject *dict, PyObject *set, PyObject *values)
{
    PyObject *name, *value;
    Py_ssize_t place = 0;
    int done = 0;
    while (done == 0 && PyDict_Next(values, &place, &name, &value))
        done = PyDict_SetDefault(dict, name, value) ? PySet_Add(set, name) : -1;
    return done;
}

PyObject *core_add_fields(PyObject *module, PyObject *const *args, Py_ssize_t n_args)
{
    core_state *state = PyModule_GetState(module);
    if (n_args != 2 || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "add_fields() takes an object of a model and a dict");
        return NULL;
    }
    PyObject *dict = PyObject_GenericGetDict(args[0], NULL);
    PyObject *set = dict ? PyObject_GenericGetAttr(args[0], state->model_slots[1]) : NULL;
    int done = -1;
    if (set) {
        Py_BEGIN_CRITICAL_SECTION(args[1]);
        done = add_locked(dict, set, args[1]);
        Py_END_CRITICAL_SECTION();
    }
    Py_XDECREF(dict);
    Py_XDECREF(set);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}
