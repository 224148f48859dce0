#!/usr/bin/env python3
"""Compares `transxssm eval` with lm-evaluation-harness, both on one exported folder and the same files.

    scripts/check_eval.py DIR [REQUESTS.jsonl...] [--text FILE]... [--tokens SHARD]... [--max-length N]
                          [--program build/release/bin/transxssm] [--device cpu]

REQUESTS.jsonl: acc, acc_norm and acc_bytes must be equal, perplexity to 1e-4 of its size. --text (plain text, one
document, or JSON lines with "text") and --tokens (prefix of a .bin/.idx pair): perplexity and bits per byte to 1e-4.
The harness's model scores the windows that docs/eval.md describes; they are the harness's own rolling windows but for
the last of a document that is cut, which starts anew here and overlaps the one before there. Needs torch, transformers,
sentencepiece and lm_eval[hf]. Computes in fp32. Exit code 0: the same; 1: something differs.
"""
import argparse
import array
import itertools
import json
import math
import pathlib
import struct
import subprocess
import sys

import datasets
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

TOLERANCE = 1e-4  # of a perplexity, relative


def program_results(program, options, files):
    """What `transxssm eval` says of files of each kind, in the order of the files."""
    command = [program, "eval", "--checkpoint", options.folder, "--device", options.device, "--json"]
    if options.max_length:
        command += ["--max-length", options.max_length]
    for kind, file in files:
        command += [f"--{kind}", file]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}")
    results = json.loads(done.stdout)["results"]
    return [next(r for r in results if (r["kind"], r["file"]) == (kind, str(file))) for kind, file in files]


def delimiter_of(row):
    """The delimiter of a whole file, by its first line: the program refuses files whose lines differ in it."""
    spaced = all(c.startswith(" ") for c in row["continuations"])
    return row.get("delimiter", " " if spaced else "")


def harness_task(name, rows):
    """The rows of a requests file as a task of the harness: all with one continuation, or all with several."""
    delimiter = delimiter_of(rows[0])
    several = len(rows[0]["continuations"]) > 1
    documents = {
        "context": [row["context"] for row in rows],
        "choices": [[c.removeprefix(delimiter) for c in row["continuations"]] for row in rows],
        "label": [row["label"] for row in rows],
        "target": [row["continuations"][0] for row in rows],
    }
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


def say(name, metric, found, wanted, tolerance):
    """Whether a measure differs; it is printed."""
    same = abs(found - wanted) <= tolerance
    print(f"{'ok  ' if same else 'FAIL'} {name} {metric}: {found:.8g}, lm_eval {wanted:.8g}", flush=True)
    return not same


def check_requests(model, file, ours):
    """How many measures of one file differ."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    task, metrics = harness_task(file.stem, rows)
    theirs = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, log_samples=False)["results"][file.stem]
    failed = 0
    for metric in metrics:
        wanted = theirs[f"{metric},none"]
        failed += say(file.name, metric, ours[metric], wanted, TOLERANCE * wanted if metric == "perplexity" else 1e-12)
    return failed


def text_documents(model, file):
    """Tokens of each document of a text file, and the bytes of them all."""
    content = file.read_text(encoding="utf-8")
    texts = [json.loads(line)["text"] for line in content.split("\n") if line.strip()] if file.suffix == ".jsonl" else [content]
    bos, eos = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    documents = [[bos, *model.tok_encode(text, add_special_tokens=False), eos] for text in texts if text]
    return documents, sum(len(text.encode()) for text in texts)


def token_documents(_, prefix):
    """Documents of a shard in Megatron's format: magic and version (17 bytes), type, counts, lengths, offsets, documents."""
    index = pathlib.Path(f"{prefix}.idx").read_bytes()
    kind, sequences, boundaries = struct.unpack_from("<BQQ", index, 17)
    lengths = struct.unpack_from(f"<{sequences}i", index, 34)
    documents = struct.unpack_from(f"<{boundaries}q", index, 34 + 12 * sequences)
    tokens = array.array({4: "i", 8: "H"}[kind], pathlib.Path(f"{prefix}.bin").read_bytes())
    starts = [0, *itertools.accumulate(lengths)]
    return [list(tokens[starts[a] : starts[b]]) for a, b in itertools.pairwise(documents)], None


def windows(document, max_length):
    """Of max_length predicted tokens each, the first with the token before them as its context."""
    for begin in range(0, len(document) - 1, max_length):
        yield document[begin : begin + max_length + 1]


def check_perplexity(model, file, ours, documents, size):
    """How many measures of the documents of one file differ."""
    requests = [(None, w[:1], w[1:]) for document in documents for w in windows(document, model.max_length)]
    nats = -sum(likelihood for likelihood, _ in model._loglikelihood_tokens(requests, disable_tqdm=True))
    tokens = sum(len(request[2]) for request in requests)
    failed = say(file.name, "tokens", ours["tokens"], tokens, 0)
    measures = {"perplexity": math.exp(nats / tokens)}
    if size:
        measures["bits_per_byte"] = nats / size / math.log(2)
    for metric, wanted in measures.items():
        failed += say(file.name, metric, ours[metric], wanted, TOLERANCE * wanted)
    return failed


def check(model, kind, file, ours):
    if kind == "requests":
        return check_requests(model, file, ours)
    documents, size = {"text": text_documents, "tokens": token_documents}[kind](model, file)
    return check_perplexity(model, file, ours, documents, size)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("requests", type=pathlib.Path, nargs="*", metavar="REQUESTS.jsonl")
    parser.add_argument("--text", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--tokens", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--max-length", type=int, help="longest text, in tokens (default: the folder's)")
    parser.add_argument("--program", default="transxssm")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    files = [(kind, file) for kind in ("requests", "text", "tokens") for file in getattr(options, kind)]
    if not files:
        parser.error("nothing to compare: name a file")
    ours = program_results(options.program, options, files)
    model = HFLM(
        pretrained=str(options.folder), dtype="float32", trust_remote_code=True, device=options.device, batch_size=4,
        max_length=options.max_length,
    )  # fmt: skip
    failed = sum(check(model, *of_file, result) for of_file, result in zip(files, ours, strict=True))
    print(f"{options.folder}: {'FAILED' if failed else 'scored as lm-evaluation-harness does'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
