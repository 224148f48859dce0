#!/usr/bin/env python3
"""`transxssm eval` scores as lm-evaluation-harness does: an exported tiny model, requests with every awkward case, and a
few-shot task of the harness that lm_eval_requests.py wrote; documents as text and as tokens.

    harness.py PROGRAM SOURCE_DIR
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

FOLDER = tempfile.TemporaryDirectory(prefix="transxssm_harness_")
os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HOME=FOLDER.name + "/hf", HF_MODULES_CACHE=FOLDER.name + "/modules",
    TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1",
)  # fmt: skip
PROGRAM, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
WORK = pathlib.Path(FOLDER.name)
SETS = [
    "model.vocab_size=640", "model.hidden_size=64", "model.num_layers=2", "model.init_std=0.15", "model.intermediate_size=96",
    "model.attention.num_heads=4", "model.attention.num_kv_heads=2", "model.attention.head_dim=16", "model.ssd.num_heads=4",
    "model.ssd.num_groups=4", "model.ssd.head_dim=16", "model.ssd.state_dim=16", "model.ssd.chunk_size=32",
    "model.layers.attention_period=2", "model.layers.attention_offset=1", "train.run_dir=run", "train.seq_len=64",
    "train.global_batch_size=4", "train.micro_batch_size=4", "train.max_steps=30", "train.device=cpu", "optimizer.lr=0.01",
    "data.tokenizer=tok.model", "data.train=[{path: data/train}]", "data.validation=[]",
]  # fmt: skip
TASK = """
task: last_word
custom_dataset: !function data.documents
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_target: label
doc_to_choice: choices
metric_list:
  - metric: acc
  - metric: acc_norm
"""
DATA = """
import datasets, json, pathlib
def documents(**_):
    rows = json.loads((pathlib.Path(__file__).parent / "rows.json").read_text())
    return {"test": datasets.Dataset.from_list(rows)}
"""


def run(*command):
    done = subprocess.run([*map(str, command)], cwd=WORK, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def export_tiny_model():
    text = SOURCE / "data" / "validation.jsonl.zst"
    run(PROGRAM, "tokenizer", "train", "--input", text, "--output", "tok", "--vocab-size", 600)
    run(PROGRAM, "data", "prepare", "--input", text, "--tokenizer", "tok.model", "--output", "data")
    config = SOURCE / "configs" / "transxssm-320m.yaml"
    run(PROGRAM, "train", "--config", config, *[word for override in SETS for word in ("--set", override)])
    run(PROGRAM, "export", "--checkpoint", "run", "--to", "hf", "--dtype", "fp32")


def words():
    lines = subprocess.run(["zstd", "-dc", SOURCE / "data" / "validation.jsonl.zst"], capture_output=True, check=True).stdout
    return " ".join(json.loads(line)["text"] for line in lines.splitlines()).split()


def questions(text, count, chance):
    """Contexts of ordinary length and longer than the model's, empty ones, white space at their ends, equal answers."""
    for i in range(count):
        begin, length = chance.randrange(len(text) - 100), chance.randrange(1, 50)
        context = " ".join(text[begin : begin + length])
        right = " ".join(text[begin + length : begin + length + chance.randrange(1, 5)])
        others = [" ".join(text[place : place + chance.randrange(1, 5)]) for place in chance.sample(range(len(text) - 5), 3)]
        choices = chance.sample([right, *others], 4)
        if i % 13 == 0:
            choices[1] = choices[0]
        label = choices.index(right) if right in choices else 0
        yield ("" if i % 11 == 0 else context + " \n" if i % 7 == 0 else context), choices, label
    yield "Ünïcode 漢字\u3000", ["é", "漢字 ab", "😀", "\u2581"], 1


def write_lines(name, rows):
    (WORK / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_requests():
    text, chance = words(), random.Random(7)
    asked = list(questions(text, 40, chance))
    write_lines("several.jsonl", [{"context": c, "continuations": [" " + x for x in xs], "label": n} for c, xs, n in asked])
    write_lines("bare.jsonl", [{"context": c, "continuations": xs, "label": n} for c, xs, n in asked if c][:12])
    write_lines("one.jsonl", [{"context": c, "continuations": [" " + xs[n]], "label": 0} for c, xs, n in asked])
    # Documents of some tokens, and of several windows.
    write_lines("documents.jsonl", [{"text": " ".join(text[i * 700 : i * 700 + n])} for i, n in enumerate((1, 9, 40, 300, 650))])
    run(PROGRAM, "data", "prepare", "--input", "documents.jsonl", "--tokenizer", "tok.model", "--output", "small")
    (WORK / "short.txt").write_text("Ünïcode 漢字\u3000 of one line.\n")
    task = WORK / "task"
    task.mkdir()
    (task / "last_word.yaml").write_text(TASK)
    (task / "data.py").write_text(DATA)
    (task / "rows.json").write_text(json.dumps([{"text": c[:60], "choices": xs, "label": n} for c, xs, n in asked if c][:10]))


def check_written_task():
    """The few-shot file has the examples, and the right answers after them."""
    script = SOURCE / "scripts" / "lm_eval_requests.py"
    run(sys.executable, script, "last_word", "--to", "task.jsonl", "--num-fewshot", 2, "--include-path", "task")
    rows = [json.loads(line) for line in (WORK / "task.jsonl").read_text().splitlines()]
    documents = json.loads((WORK / "task" / "rows.json").read_text())
    for row, document in zip(rows, documents, strict=True):
        assert row["context"].endswith(document["text"]) and row["context"].count("\n\n") >= 2, row
        assert row["continuations"] == [" " + choice for choice in document["choices"]], row
        assert row["label"] == document["label"], row


def main():
    export_tiny_model()
    write_requests()
    check_written_task()
    script = SOURCE / "scripts" / "check_eval.py"
    files = ["several.jsonl", "bare.jsonl", "one.jsonl", "task.jsonl"]
    texts = ["--text", "documents.jsonl", "--text", "short.txt", "--tokens", "small/train/shard-00000"]
    print(run(sys.executable, script, "hf", *files, *texts, "--program", PROGRAM))
    print(run(sys.executable, script, "hf", "--text", "documents.jsonl", "--max-length", 160, "--program", PROGRAM))
    return 0


if __name__ == "__main__":
    sys.exit(main())
