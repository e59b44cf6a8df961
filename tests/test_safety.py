"""Nothing that the package reads or is told can run code, or lead out of the run's directory."""

import ast
import pathlib
import re

import absl.flags
import numpy as np
import pytest
import tf_keras

from orbit_snn import train  # noqa: F401
from orbit_snn.cells import Cell
from orbit_snn.configuration import ConfigError, read_yaml
from orbit_snn.connections import Dense
from orbit_snn.database import Database
from orbit_snn.graph import MSE, InputNode, NetworkNode, assemble_for_training
from orbit_snn.learning import BPTT
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.training import Compare, PlotMaker, Run, StopOnThreshold, Traces, TrainingOptions

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(
    file for room in ("orbit_snn", "tasks", "tools") for file in (ROOT / room).rglob("*.py")
)
TEXTS = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "tools").glob("*.sh"))]
TEXTS += sorted((ROOT / "docs").rglob("*.md"))

# Modules whose formats carry code, or that unpack or fetch what was not checked.
MODULES = re.compile(
    r"(pickle|_pickle|cPickle|marshal|shelve|dill|cloudpickle|joblib|copyreg"
    r"|h5py|tarfile|zipfile|gin|official\.common\.flags|urllib\.request|http\.client|ftplib|requests"
    r")(\.|$)"
)
NAMES = re.compile(
    r"(builtins\.)?(eval|exec|compile|__import__)$"
    r"|yaml\.(load|load_all|full_load|full_load_all|unsafe_load|unsafe_load_all)$"
    r"|yaml\.(\w+\.)?(Loader|FullLoader|UnsafeLoader|CLoader|CFullLoader|CUnsafeLoader)$"
    r"|(.*\.)?(load_model|model_from_json|model_from_config|extractall|unpack_archive|get_file)$"
    r"|(.*\.)?(saved_model\.load|saved_model\.load_v2|hub\.load|read_pickle|rmtree)$"
    r"|(.*\.)?(parse_config_file|parse_config_files_and_bindings|enable_unsafe_deserialization)$"
    r"|os\.(system|popen)$"
)
TEXT = re.compile(r"bind_all|gin_file|gin_param|http://|0\.0\.0\.0|allow_pickle=True")


class Finder(ast.NodeVisitor):
    """What a file imports, names and says that it should not."""

    def __init__(self, source):
        self.found = []
        self._aliases = {}
        tree = ast.parse(source)
        self._docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):  # imports inside functions count everywhere
            self._imports(node)
        self.visit(tree)

    def _imports(self, node):
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.partition(".")[0]
                self._aliases[name.asname or top] = name.name if name.asname else top
                self._note(node, name.name, MODULES)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                full = f"{node.module}.{name.name}"
                self._aliases[name.asname or name.name] = full
                self._note(node, full, MODULES)

    def _note(self, node, text, rule):
        if rule.match(text):
            self.found.append(f"{node.lineno}: {text}")

    def _dotted(self, node):
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id, node.id)
        return f"{self._dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load):
            self._note(node, self._dotted(node), NAMES)

    def visit_Attribute(self, node):
        self._note(node, self._dotted(node), NAMES)
        self.generic_visit(node)

    def visit_Call(self, node):
        name = self._dotted(node.func)
        given = {word.arg: word.value for word in node.keywords}
        safe = getattr(given.get("allow_pickle"), "value", None) is False
        if name in ("numpy.load", "numpy.lib.npyio.load") and not safe:
            self.found.append(f"{node.lineno}: {name} without allow_pickle=False")
        if "import_module" in name and not isinstance(node.args[0], (ast.Constant, ast.JoinedStr)):
            self.found.append(f"{node.lineno}: {name} of a name that may come from anywhere")
        if getattr(given.get("shell"), "value", False):
            self.found.append(f"{node.lineno}: {name} with a shell")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and id(node) not in self._docs and TEXT.search(node.value):
            self.found.append(f"{node.lineno}: {node.value[:60]!r}")


def test_no_file_runs_code_that_it_reads():
    assert len(FILES) > 100
    found = {str(file.relative_to(ROOT)): Finder(file.read_text()).found for file in FILES}
    assert not {file: lines for file, lines in found.items() if lines}


@pytest.mark.parametrize(
    "source",
    [
        *["import pickle", "from pickle import loads", "import dill as d", "import joblib.memory"],
        *["def f():\n    import marshal", "from official.common import flags", "import h5py"],
        *["import tarfile, zipfile", "import shelve", "import gin", "import urllib.request"],
        *["eval('1')", "exec(x)", "f = eval", "import builtins\nbuiltins.eval('1')"],
        *["import yaml\nyaml.load(x, y)", "from yaml import load\nload(x)", "__import__('os')"],
        *["import yaml as y\ny.load(x, Loader=y.FullLoader)", "import yaml\nyaml.unsafe_load(x)"],
        *["import yaml\nclass L(yaml.UnsafeLoader): ...", "import yaml\nyaml.loader.FullLoader"],
        *["import tf_keras\ntf_keras.models.load_model(p)", "t.extractall(p)", "shutil.rmtree(p)"],
        *["import tensorflow as tf\ntf.saved_model.load(p)", "import os\nos.system('ls')"],
        *["import numpy as np\nnp.load(p)", "import numpy as np\nnp.load(p, allow_pickle=True)"],
        *["from numpy import load\nload(p, allow_pickle=flag)", "run(x, shell=True)"],
        *[
            "import importlib\nimportlib.import_module(name)",
            "run(['--bind_all'])",
            "x = 'http://a'",
        ],
    ],
)
def test_the_search_finds(source):
    assert Finder(source).found


@pytest.mark.parametrize(
    "source",
    [
        *["'''Not http://a'''", "import re\nre.compile('x')", "model.compile()"],
        *["import yaml\nclass L(yaml.SafeLoader): ...", "import json\njson.load(x)"],
        *["import numpy as np\nnp.load(p, allow_pickle=False)", "x = 'https://a'"],
    ],
)
def test_the_search_leaves_alone(source):
    assert not Finder(source).found


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_no_text_tells_to_open_a_port_to_all(file):
    assert not re.search(r"bind_all|0\.0\.0\.0|--host|gin_(file|param)", file.read_text())


def test_the_command_line_has_no_gin_flags():
    ours = absl.flags.FLAGS.flags_by_module_dict()
    assert any("orbit_snn.train" in module for module in ours)
    assert not [name for name in absl.flags.FLAGS if name.startswith("gin")]


TAGS = ["python/name:os.system", "python/tuple [1]", "python/object:x.Y {}"]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_cannot_name_code(tmp_path, tag):
    """More of it in `test_configuration_yaml`."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"seed: !!{tag}\n")
    with pytest.raises(ConfigError, match="the tag .* is not allowed"):
        read_yaml(file)


def test_no_name_leads_out_of_the_directory(tmp_path):
    """Of nodes, metrics, plotters and the run; an absolute name, and one that goes up."""
    outside = tmp_path / "outside"
    run_in = tmp_path / "a" / "b" / "run"
    cell = Cell(LIF(3), Dense(2, 3, seed=1))
    network = Network([cell], Cell(LeakyIntegrator(1), Dense(3, 1, seed=2)))
    net = NetworkNode("net", InputNode("inputs"), network, db_name="target")
    up, absolute = "../../../outside/x", f"{outside}/x"
    error = MSE.of_node(net.output)
    plot_maker = PlotMaker(Compare(net.output, name=up), Traces(net.output, name=absolute))
    metrics = {"loss": error, up: error, absolute: error}
    assembled = assemble_for_training(error, metrics, plot_maker=plot_maker)
    draw = np.random.default_rng(0)
    features = {"inputs": draw.normal(size=(20, 4, 2)), "target": draw.normal(size=(20, 4, 1))}
    features = {name: values.astype(np.float32) for name, values in features.items()}
    options = TrainingOptions(
        train_steps=2,
        batch_size=4,
        steps_per_loop=2,
        checkpoint_interval=2,
        validation_interval=2,
        best_metric=up,
        higher_is_better=False,
        pictures=1,
        keep="best",
    )
    run = Run(
        *assembled,
        Database.from_arrays(features, test_size=0.2, seed=0),
        BPTT(),
        tf_keras.optimizers.legacy.SGD(1e-3),
        run_in,
        options,
        name=up,
        configuration=absolute,
        xla=False,
    )
    run.train_and_evaluate()
    written = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert all(path.is_relative_to(run_in) for path in written) and not outside.exists()
    assert len([path for path in written if path.suffix == ".png"]) == 2


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "a b", ""])
def test_the_name_of_an_action_is_an_identifier(name):
    with pytest.raises(ValueError, match="name"):
        StopOnThreshold("loss", 1.0, False, name=name)
