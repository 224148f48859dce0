#!/usr/bin/env python3
"""Writes a task of lm-evaluation-harness as requests for `transxssm eval --requests`, few-shot examples included.

    scripts/lm_eval_requests.py TASK --to REQUESTS.jsonl [--num-fewshot 5] [--limit 100] [--include-path FOLDER]

Takes tasks that are scored by likelihood with one context a question (output_type multiple_choice or loglikelihood).
Needs lm_eval, which downloads the task's data. A group of tasks becomes one file for each: REQUESTS-TASK.jsonl.
"""
import argparse
import itertools
import json
import pathlib
import sys

from lm_eval.tasks import TaskManager

FEWSHOT_SEED = 1234  # lm_eval's own default: the same examples


def label_of(task, name, document):
    """The place of the right answer among the choices."""
    target, choices = task.doc_to_target(document), task.doc_to_choice(document)
    label = choices.index(target) if isinstance(target, str) and target in choices else target
    if not isinstance(label, int) or not 0 <= label < len(choices):
        sys.exit(f"{name}: the answer {target!r} is not one of the choices; tasks with several right answers can't be written")
    return label


def requests_of(task, name):
    """One row for each document, from the pairs of context and continuation that the harness would score."""
    by_document = itertools.groupby(task.instances, key=lambda instance: instance.doc_id)
    for _, instances in by_document:
        instances = list(instances)
        document = instances[0].doc
        if task.OUTPUT_TYPE == "multiple_choice":
            instances = instances[: len(task.doc_to_choice(document))]  # without acc_mutual_info's empty contexts
        contexts = {instance.args[0] for instance in instances}
        if len(contexts) != 1:
            sys.exit(f"{name}: its questions have a context for each answer; a request has one context")
        several = task.OUTPUT_TYPE == "multiple_choice"
        row = {
            "context": contexts.pop(),
            "continuations": [instance.args[1] for instance in instances],
            "label": label_of(task, name, document) if several else 0,
        }
        if several and task.config.target_delimiter != " ":
            row["delimiter"] = task.config.target_delimiter
        yield row


def write_task(task, name, file, options):
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        sys.exit(f"{name}: is a task of kind {task.OUTPUT_TYPE}, not multiple_choice or loglikelihood")
    if options.num_fewshot is not None:
        task.set_config("num_fewshot", options.num_fewshot)
    task.set_fewshot_seed(FEWSHOT_SEED)
    task.build_all_requests(limit=options.limit)
    rows = list(requests_of(task, name))
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{file}: {len(rows)} questions of {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--to", type=pathlib.Path, required=True, metavar="REQUESTS.jsonl")
    parser.add_argument("--num-fewshot", type=int, help="examples before each question (default: the task's)")
    parser.add_argument("--limit", type=int, help="only so many questions")
    parser.add_argument("--include-path", help="folder with task definitions of your own")
    options = parser.parse_args()
    tasks = TaskManager(include_path=options.include_path).load([options.task])["tasks"]
    for name, task in tasks.items():
        file = options.to if len(tasks) == 1 else options.to.with_stem(f"{options.to.stem}-{name}")
        write_task(task, name, file, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
