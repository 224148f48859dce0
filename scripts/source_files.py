#!/usr/bin/env python3
"""The C++ and CUDA sources that the format, layer and file checks look at. Run it to print them, one a line."""
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("src", "csrc_cuda", "tests")
SUFFIXES = (".h", ".cpp", ".cu", ".cuh")


def source_files(folders=FOLDERS):
    """Paths relative to the repository's root."""
    return sorted(
        path.relative_to(ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES
    )


if __name__ == "__main__":
    print(*source_files(), sep="\n")
