#!/usr/bin/env python3
"""Includes only go down: each folder sees the folders listed for it, and the CUDA kernels see no Torch."""
import re
import sys

sys.dont_write_bytecode = True  # no __pycache__ in the tree
from source_files import ROOT, source_files  # noqa: E402

# Folder -> folders it may include besides itself. model, data and optim do not see each other.
MAY_INCLUDE = {
    "core": set(),
    "csrc_cuda": {"core"},
    "config": {"core"},
    "ops": {"core", "csrc_cuda"},
    "optim": {"core", "config", "ops", "csrc_cuda", "parallel"},
    "data": {"core", "config", "ops"},
    "model": {"core", "config", "ops", "csrc_cuda"},
    "checkpoint": {"core", "config", "optim", "parallel"},
    "export": {"core", "config", "ops", "optim", "data", "model", "checkpoint"},
    "eval": {"core", "data"},
    "parallel": {"core", "csrc_cuda"},
    "trainer": {"core", "config", "ops", "csrc_cuda", "optim", "data", "model", "checkpoint", "export", "eval", "parallel"},
    "generate": {"core", "config", "ops", "data", "model", "trainer"},
    "bench": {"core", "config", "ops", "csrc_cuda", "optim", "data", "model", "checkpoint", "trainer", "generate", "parallel"},
    "cli": {"core", "config", "ops", "optim", "data", "model", "checkpoint", "export", "eval", "trainer", "generate", "bench", "parallel"},
}
# The configuration that a folder may see; folders that are not named here see all of it, or (above) none.
OWN_CONFIG = {
    "optim": {"config/optim_config.h"},
    "data": {"config/data_config.h"},
    "model": {"config/model_config.h"},
    "checkpoint": {"config/model_config.h"},
    "export": {"config/model_config.h"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TORCH = ("ATen/", "c10/", "torch/")


def includes(path):
    """(line number, included path, whether it was written with quotes) of each include of a file."""
    for number, line in enumerate((ROOT / path).read_text().splitlines(), start=1):
        if match := INCLUDE.match(line):
            yield number, match[2], match[1] == '"'


def folder_of(path):
    return path.parts[1] if path.parts[0] == "src" else path.parts[0]


def resolve(target):
    """The file of this repository that `#include "target"` means, or None."""
    for base in (ROOT / "src", ROOT):
        if (base / target).is_file():
            return (base / target).relative_to(ROOT)
    return None


def reaches_torch(path, seen):
    """The chain of includes from a file to a header of Torch, or None."""
    for _, target, quoted in includes(path):
        if target.startswith(TORCH):
            return [str(path), target]
        file = resolve(target) if quoted else None
        if file and file not in seen:
            seen.add(file)
            if chain := reaches_torch(file, seen):
                return [str(path)] + chain
    return None


def check(path):
    folder = folder_of(path)
    if folder not in MAY_INCLUDE:
        yield f"{path}: folder '{folder}' has no rule in scripts/check_layers.py"
        return
    for number, target, quoted in includes(path):
        other = target.split("/")[0]
        if not quoted or other == folder or other not in MAY_INCLUDE:
            continue
        if other not in MAY_INCLUDE[folder]:
            allowed = ", ".join(sorted(MAY_INCLUDE[folder])) or "no other folder"
            yield f"{path}:{number}: {folder} may not include {target}; it may include {allowed}"
        elif other == "config" and target not in OWN_CONFIG.get(folder, {target}):
            yield f"{path}:{number}: {folder} may not include {target}, only {', '.join(OWN_CONFIG[folder])}"
    if folder == "csrc_cuda" and (chain := reaches_torch(path, set())):
        yield f"{path}: kernels know no Torch, but {' -> '.join(chain)}"


def main():
    files = source_files(("src", "csrc_cuda"))
    errors = [error for path in files for error in check(path)]
    print(*errors, f"layers: {len(files)} files, {len(errors)} errors", sep="\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
