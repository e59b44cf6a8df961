"""Who imports whom: the layers of the library, and what its code must not use."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# From the bottom up; a module may import its own layer and those before it.
LAYERS = (
    (
        *("neurons", "connections", "surrogate", "decay", "types", "seeds", "draws"),
        *("updaters", "accumulators", "bounds", "reducers", "migration"),
    ),
    ("cells", "adjoint", "memory", "unroll", "monitors"),
    ("networks",),
    (
        "losses",
        "regularizers",
        "metrics",
        "distribute",
        *("data", "data_checks", "data_shares", "signals"),
        "encoders",
    ),
    ("graph",),
    ("learning",),
    (
        *("training", "experiments", "database", "tfds_source", "models", "runtime"),
        "derived_config",
        *("configuration", "configuration_yaml", "configuration_checks", "configuration_fields"),
        *("configuration_errors", "optimizer_config", "cluster"),
    ),
    ("train", "tasks", "tools"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Third-party packages that only some of our modules may import.
ONLY_IN = {
    "orbit": ("training", "experiments", "train", "tasks", "tools"),
    "official.core": ("experiments", "training.runner", "train", "tasks", "tools"),
    "official": (*LAYERS[-2], *LAYERS[-1]),
    "tensorflow_datasets": ("data", "tfds_source", "experiments", "train", "tasks", "tools"),
    "absl.flags": ("train", "tasks", "tools"),
    "matplotlib": (
        "training.pictures",
        "training.plot_figures",
        "training.plot_maker",
        "training.receptive_fields",
        "tasks",
        "tools",
    ),
}
SERIALISERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
TIME_LOOPS = {"while_loop", "scan", "foldl", "foldr", "TensorArray"}


def find_modules():
    """Path and syntax tree of every module, by its name in the package: `training.runner`."""
    found = {}
    for folder in ("orbit_snn", "tasks", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            name = name.removesuffix(".__init__").removeprefix("orbit_snn.")
            found["" if name == "orbit_snn" else name] = (path, ast.parse(path.read_text()))
    return found


MODULES = find_modules()
LIBRARY = [name for name in MODULES if name.split(".")[0] not in ("tasks", "tools")]


def top(name):
    return name.split(".")[0]


def imports(name):
    """Dotted names that a module imports anywhere, with what it takes out of them."""
    path, tree = MODULES[name]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name, prefixes):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def own_imports(name):
    """Our own modules that a module imports; `from a import b` is `a.b` where that is a module."""
    for imported in imports(name):
        if not within(imported, ("orbit_snn", "tasks", "tools")):
            continue
        inner = imported.removeprefix("orbit_snn.")
        while inner not in MODULES and "." in inner:
            inner = inner.rpartition(".")[0]
        yield inner


def calls(name):
    return [node for node in ast.walk(MODULES[name][1]) if isinstance(node, ast.Call)]


def test_the_modules_are_found():
    assert {"", "cells", "neurons.lif", "training.runner", "tasks.digits"} <= MODULES.keys()
    assert "graph.module" in set(own_imports("learning.passes"))
    assert "data" in set(own_imports("training.trainer"))


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_go_downwards(name):
    assert top(name) in RANK, f"give {name} a layer in LAYERS"
    above = {other for other in own_imports(name) if other and RANK[top(other)] > RANK[top(name)]}
    assert not above, f"{name} imports {sorted(above)}, of a higher layer"


def test_no_module_imports_itself_through_others():
    graph = {name: {o for o in own_imports(name) if o in MODULES and o != name} for name in MODULES}
    for package in [n for n in MODULES if MODULES[n][0].name == "__init__.py"]:
        graph[package] = set()  # they only pass names on
    done = set()

    def visit(name, path):
        assert name not in path, f"circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_above(package):
    wrong = [
        name
        for name in MODULES
        if any(within(imported, [package]) for imported in imports(name))
        and not within(name, ONLY_IN[package])
    ]
    assert not wrong


def test_the_library_imports_tasks_and_tools_in_train_only():
    wrong = [
        n for n in LIBRARY if n != "train" and {"tasks", "tools"} & set(map(top, own_imports(n)))
    ]
    assert not wrong
    assert "tools" not in {top(other) for other in own_imports("train")}


@pytest.mark.parametrize("name", LIBRARY)
def test_only_unroll_loops_over_steps(name):
    used = {node.attr for node in ast.walk(MODULES[name][1]) if isinstance(node, ast.Attribute)}
    used |= {imported.rpartition(".")[2] for imported in imports(name)}
    assert top(name) == "unroll" or not used & TIME_LOOPS


@pytest.mark.parametrize("name", MODULES)
def test_nothing_that_runs_code_out_of_data(name):
    assert not {top(imported) for imported in imports(name)} & SERIALISERS
    for call in calls(name):
        function = ast.unparse(call.func)
        text = f"{name}: {ast.unparse(call)}"
        assert function not in ("eval", "exec", "compile", "__import__"), text
        assert function not in ("os.system", "os.popen", "torch.load"), text
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert keywords.get("allow_pickle", "False") == "False", text
        assert keywords.get("shell", "False") == "False", text
        if function in ("yaml.load", "yaml.load_all"):
            loader = [*map(ast.unparse, call.args[1:2]), keywords.get("Loader", "")]
            assert "SafeLoader" in "".join(loader), text
        assert not function.startswith(("yaml.unsafe", "yaml.full")), text
        assert not function.endswith(("keras.models.load_model", "saved_model.load")), text


def test_yaml_loaders_are_safe_ones():
    for name, (_, tree) in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = [b for b in map(ast.unparse, node.bases) if b.startswith("yaml.")]
                assert not any("Loader" in b and "Safe" not in b for b in bases), name


def test_importing_the_library_is_cheap():
    program = """
import sys
heavy = ("orbit", "official", "tensorflow_datasets")
import orbit_snn
print(sorted({"tensorflow", *heavy} & sys.modules.keys()))
import orbit_snn.networks, orbit_snn.learning, orbit_snn.graph
print(sorted(set(heavy) & sys.modules.keys()))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
