#!/usr/bin/env python3
"""Files open with a comment that says what they hold, headers have #pragma once, no file grows too long, and the
files that the documents name exist."""
import re
import sys

sys.dont_write_bytecode = True  # no __pycache__ in the tree
from source_files import ROOT, source_files  # noqa: E402

SOFT_LINES = 400  # a warning: is it still one thing?
HARD_LINES = 600
DOCUMENTS = ("README.md", "docs/tour.md", "docs/comparing.md", "csrc_cuda/README.md")
NAMED = re.compile(r"[`(]((?:src|csrc_cuda|tests|scripts|configs|docs|data)/[\w./-]+)[`)]")


def check(path):
    """(is an error, message) for each finding."""
    lines = (ROOT / path).read_text().splitlines()
    has_header = path.suffix == ".cpp" and (ROOT / path).with_suffix(".h").exists()  # which then says it
    if not has_header and not (lines and lines[0].startswith("//")):
        yield True, f"{path}: opens without a comment that says what it holds"
    if path.suffix in (".h", ".cuh") and "#pragma once" not in lines:
        yield True, f"{path}: header without #pragma once"
    if len(lines) > SOFT_LINES:
        hard = len(lines) > HARD_LINES
        yield hard, f"{path}: {len(lines)} lines, the {'limit is' if hard else 'goal is at most'} " + str(
            HARD_LINES if hard else SOFT_LINES
        )


def check_document(document):
    for name in NAMED.findall((ROOT / document).read_text()):
        if not (ROOT / name).exists():
            yield True, f"{document}: names {name}, which does not exist"


def main():
    files = source_files()
    findings = [finding for path in files for finding in check(path)]
    findings += [finding for document in DOCUMENTS for finding in check_document(document)]
    for is_error, message in findings:
        print(message if is_error else f"warning: {message}")
    errors = sum(is_error for is_error, _ in findings)
    print(f"files: {len(files)} files, {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
