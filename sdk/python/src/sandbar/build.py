"""`python -m sandbar.build DIR --wit FOLDER --out FILE`: from a plugin's folder to a component.

`sandbar plugin build` runs it; the last line on standard output is a JSON object with the
plugin's name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import traceback
from pathlib import Path
from typing import Any

#: The module that the component is made of; the author's is imported by it.
_ENTRY = "sandbar_entry"

_SCRIPT = "import sys, componentize_py; sys.exit(componentize_py.script())"


class BuildError(Exception):
    """What the author can mend: shown without a traceback."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbar.build")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--wit", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        name = build(args.dir.resolve(), args.wit, args.out)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"name": name}))
    return 0


def build(folder: Path, wit: Path, out: Path) -> str:
    """Makes the component and returns the plugin's name."""
    facts = _facts(folder)
    settings = facts.pop("settings")
    module, root = _module(folder, settings)
    wasi = _wants_wasi(settings)
    plugin = _load(module, root)
    uses = _uses(settings)
    with tempfile.TemporaryDirectory(prefix="sandbar-python-") as scratch:
        entry = Path(scratch, f"{_ENTRY}.py")
        entry.write_text(_entry(module, root, plugin.batch, {"clock": wasi, "uses": uses, **facts}))
        wit, world = _world(wit, Path(scratch, "world"), plugin.batch, uses)
        paths = [root, Path(__file__).parent.parent, Path(scratch)]
        if wasi:
            _componentize(paths, wit, world, out)
        else:
            _componentize(paths, _renamed(wit, Path(scratch, "wit")), world, out, "--stub-wasi")
            out.write_bytes(out.read_bytes().replace(_RENAMED, _WASI))
    return facts["name"]


#: `--stub-wasi` stubs whatever is called `wasi:`, the host's log and configuration too, so they
#: have another name of the same length while the component is made.
_WASI, _RENAMED = b"wasi:", b"xwas:"


#: What a plugin may use, by the SDK's modules, and what it then imports.
_INTERFACES = {
    "http": "wasi:http/outgoing-handler@0.2.12",
    "metrics": "metrics",
    "publisher": "publisher",
    "secrets": "secrets",
    "state": "state",
}


def _uses(settings: dict[str, Any]) -> list[str]:
    """The modules that the author's have imported, and those that are named."""
    named = settings.get("uses", [])
    if unknown := [name for name in named if name not in _INTERFACES]:
        known = ", ".join(_INTERFACES)
        raise BuildError(f"pyproject.toml: `[tool.sandbar] uses` has {unknown[0]!r}, known are {known}")
    return [name for name in _INTERFACES if name in named or f"sandbar.{name}" in sys.modules]


def _world(wit: Path, to: Path, batch: bool, uses: list[str]) -> tuple[Path, str]:
    """The contract with one more world: a component imports all of its own, used or not."""
    shutil.copytree(wit, to)
    always = ["context", "wasi:logging/logging@0.1.0-draft", "wasi:config/store@0.2.0-rc.1"]
    imports = [*always, *(_INTERFACES[use] for use in uses)]
    exports = ["plugin", "lifecycle", "batch-handler" if batch else "handler"]
    lines = [f"  import {name};" for name in imports] + [f"  export {name};" for name in exports]
    text = (to / "types.wit").read_text()
    (to / "types.wit").write_text("\n".join([text, "world python-plugin {", *lines, "}", ""]))
    return to, "python-plugin"


def _renamed(wit: Path, to: Path) -> Path:
    for file in wit.rglob("*.wit"):
        copy = to / file.relative_to(wit)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(_CLOCK_FUNCTION.sub(b"", file.read_bytes()).replace(_WASI, _RENAMED))
    return to


#: HTTP mentions the clock's types, and a component imports all of an interface: without its
#: functions it needs no grant for it.
_CLOCK_FUNCTION = re.compile(
    rb"  @since\(version = [0-9.]+\)\n  (?:now|resolution|subscribe-[a-z]+): func\([^;]*;\n"
)


def _facts(folder: Path) -> dict[str, Any]:
    file = folder / "pyproject.toml"
    try:
        toml = tomllib.loads(file.read_text()) if file.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{file}: {error}") from error
    project = toml.get("project", {})
    about = {**project.get("urls", {}), "license": project.get("license")}
    about["authors"] = ", ".join(a["name"] for a in project.get("authors", []) if "name" in a)
    return {
        "name": project.get("name", folder.name).replace("_", "-").replace(".", "-").lower(),
        "version": project.get("version", "0.0.0"),
        "description": project.get("description", ""),
        "annotations": [(k.lower(), v) for k, v in about.items() if isinstance(v, str) and v],
        "settings": toml.get("tool", {}).get("sandbar", {}),
    }


def _module(folder: Path, settings: dict[str, Any]) -> tuple[str, Path]:
    roots = [root for root in (folder / "src", folder) if root.is_dir()]
    module = settings.get("module", "handler")
    for root in roots:
        if (root / f"{module}.py").is_file() or (root / module / "__init__.py").is_file():
            return module, root
    raise BuildError(
        f"{folder} has no {module}.py: name the module with the handler in pyproject.toml, "
        '`[tool.sandbar] module = "..."`'
    )


def _wants_wasi(settings: dict[str, Any]) -> bool:
    grants = settings.get("grants", [])
    if grants not in ([], ["wasi"]):
        raise BuildError(
            f'pyproject.toml: `[tool.sandbar] grants` is {grants}: Python takes all of WASI, ["wasi"], '
            "or nothing, []"
        )
    return bool(grants)


def _load(module: str, root: Path) -> Any:
    """Runs the author's module here, so that a mistake in it is found before the slow part."""
    from sandbar import plugin

    sys.path.insert(0, str(root))
    try:
        importlib.import_module(module)
    except Exception as error:
        raise BuildError(f"{module} cannot be imported:\n{traceback.format_exc()}") from error
    if plugin.defined is None:
        raise BuildError(f'{module} has no handler: put `@handler(topics=["..."])` on one function')
    return plugin.defined


def _entry(module: str, root: Path, batch: bool, facts: dict[str, Any]) -> str:
    kind = "BatchHandler" if batch else "Handler"
    return f"""
import sys
import {module}
from sandbar import _component
from sandbar._component import {kind}, Lifecycle, Plugin

mounted = {{}}
for name, source in {_sources(module, root)!r}.items():
    file = getattr(sys.modules.get(name), "__file__", None)
    if file:
        mounted[file] = source
_component.start(mounted, **{facts!r})
"""


def _sources(module: str, root: Path) -> dict[str, str]:
    """The author's modules that were imported, with their text."""
    found = {}
    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if file and Path(file).suffix == ".py" and Path(file).is_relative_to(root):
            if "site-packages" not in Path(file).parts and not name.startswith("sandbar"):
                found[name] = Path(file).read_text()
    return found


def _componentize(paths: list[Path], wit: Path, world: str, out: Path, *options: str) -> None:
    command = [sys.executable, "-c", _SCRIPT, "-d", str(wit), "-w", world, "componentize"]
    for path in paths:
        command += ["-p", str(path)]
    command += [*options, _ENTRY, "-o", str(out)]
    # how it finds the packages beside the plugin
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()
        raise BuildError(f"componentize-py failed:\n{said}")


if __name__ == "__main__":
    sys.exit(main())
