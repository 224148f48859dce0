#!/usr/bin/env python3
"""Compares `transxssm eval` with lm-evaluation-harness, both on one exported folder and the same requests.

    scripts/check_eval.py DIR REQUESTS.jsonl... [--program build/release/bin/transxssm] [--device cpu]

acc, acc_norm and acc_bytes must be equal, perplexities to 1e-4 of their size. Needs torch, transformers, sentencepiece
and lm_eval[hf]. Computes in fp32. Exit code 0: the same; 1: something differs.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import datasets
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

TOLERANCE = 1e-4  # of a perplexity, relative


def program_results(program, folder, files, device):
    command = [program, "eval", "--checkpoint", folder, "--device", device, "--json"]
    for file in files:
        command += ["--requests", file]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}")
    return json.loads(done.stdout)["results"]


def harness_task(name, rows):
    """The rows of a requests file as a task of the harness: all with one continuation, or all with several."""
    delimiter = rows[0].get("delimiter", " ")
    if not all(c.startswith(delimiter) for row in rows for c in row["continuations"]):
        delimiter = ""
    choices = [[c[len(delimiter) :] for c in row["continuations"]] for row in rows]
    documents = {
        "context": [row["context"] for row in rows],
        "choices": choices,
        "label": [row["label"] for row in rows],
        "target": [row["continuations"][0] for row in rows],
    }
    several = len(rows[0]["continuations"]) > 1
    metrics = ["acc", "acc_norm", "acc_bytes"] if several else ["acc", "perplexity"]
    config = {
        "task": name,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_dict(documents)},
        "test_split": "test",
        "output_type": "multiple_choice" if several else "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "label" if several else "target",
        "doc_to_choice": "choices" if several else None,
        "target_delimiter": delimiter,
        "metric_list": [{"metric": metric} for metric in metrics],
    }
    return ConfigurableTask(config=config), metrics


def check_file(model, file, ours):
    """How many measures of one file differ; each is printed."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    task, metrics = harness_task(file.stem, rows)
    theirs = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, log_samples=False)["results"][file.stem]
    failed = 0
    for metric in metrics:
        found, wanted = ours[metric], theirs[f"{metric},none"]
        same = abs(found - wanted) <= (TOLERANCE * wanted if metric == "perplexity" else 1e-12)
        failed += not same
        print(f"{'ok  ' if same else 'FAIL'} {file.name} {metric}: {found:.8g}, lm_eval {wanted:.8g}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("requests", type=pathlib.Path, nargs="+", metavar="REQUESTS.jsonl")
    parser.add_argument("--program", default="transxssm")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model = HFLM(
        pretrained=str(options.folder), dtype="float32", trust_remote_code=True, device=options.device, batch_size=4
    )  # fmt: skip
    ours = program_results(options.program, options.folder, options.requests, options.device)
    failed = sum(check_file(model, *pair) for pair in zip(options.requests, ours, strict=True))
    print(f"{options.folder}: {'FAILED' if failed else 'scored as lm-evaluation-harness does'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
