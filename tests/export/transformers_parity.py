#!/usr/bin/env python3
"""Exported tiny models of every architecture compute in transformers what the program computes, and check_export.py
notices when they don't.

    transformers_parity.py PROGRAM SOURCE_DIR
"""
import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
FOLDER = tempfile.TemporaryDirectory(prefix="transxssm_transformers_")
os.environ["HF_MODULES_CACHE"] = FOLDER.name + "/modules"  # where transformers keeps the folders' Python files

PROGRAM, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
WORK = pathlib.Path(FOLDER.name)
sys.path.insert(0, str(SOURCE / "scripts"))
sys.dont_write_bytecode = True

import torch  # noqa: E402
from check_export import LARGEST_ON_A_GPU, check_folder  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast  # noqa: E402
from transformers.modeling_outputs import BaseModelOutputWithPast  # noqa: E402

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"

COMMON = [
    "model.vocab_size=640", "model.hidden_size=64", "model.num_layers=4", "model.init_std=0.15",
    "train.seq_len=64", "train.global_batch_size=4", "train.micro_batch_size=4", "train.max_steps=3", "train.device=cpu",
    "data.tokenizer=tok.model", "data.train=[{path: data/train}]", "data.validation=[]", "optimizer.lr=0.01",
]  # fmt: skip
MLP = ["model.intermediate_size=96"]
ATTENTION = ["model.attention.num_heads=4", "model.attention.num_kv_heads=2", "model.attention.head_dim=16"]
SSD = ["model.ssd.num_heads=4", "model.ssd.head_dim=16", "model.ssd.state_dim=16", "model.ssd.chunk_size=32"]
ALTERNATE = ["model.layers.attention_period=2", "model.layers.attention_offset=1"]
# Name: (shipped configuration, what makes it tiny, class of transformers).
ARCHITECTURES = {
    "transxssm": ("transxssm-320m", MLP + ATTENTION + SSD + ["model.ssd.num_groups=4"] + ALTERNATE, "TransXSSM"),
    "transformer": ("transformer-320m", MLP + ATTENTION, "TransXSSM"),
    "llama": ("transformer-320m", MLP + ATTENTION + ["model.residual=plain"], "Llama"),
    "mamba2": ("mamba2-320m", SSD + ["model.ssd.num_heads=8"], "Mamba2"),
    "hybrid-plain": ("hybrid-plain-320m", MLP + ATTENTION + SSD + ALTERNATE, "TransXSSM"),
    "everything": (
        "hybrid-plain-320m",
        MLP + ATTENTION + SSD + ALTERNATE + ["model.ssd.num_groups=2", "model.ssd.rope=true", "model.ssd.bc_norm=true"]
        + ["model.ssd.state_dim=8", "model.attention.qk_norm=true", "model.tie_word_embeddings=false"]
        + ["model.rope.scaling=yarn", "model.rope.factor=4.0", "model.rope.original_max_position=32"]
        + ["model.residual=learned"],
        "TransXSSM",
    ),
}  # fmt: skip

failures = []


def expect(holds, what):
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        failures.append(what)


def run(*arguments, stdin=None):
    result = subprocess.run([PROGRAM, *map(str, arguments)], cwd=WORK, input=stdin, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{arguments}: exit code {result.returncode}\n{result.stderr}")
    return result.stdout


def train(name):
    base, sets, _ = ARCHITECTURES[name]
    overrides = COMMON + sets + [f"train.run_dir={name}"]
    config = SOURCE / "configs" / (base + ".yaml")
    run("train", "--config", config, *[word for override in overrides for word in ("--set", override)])


def export(name, to, *flags):
    run("export", "--checkpoint", name, "--to", to, *flags)
    return WORK / to


def greedy_of(folder):
    return load_file(folder / "parity.safetensors")["greedy"].tolist()


def generated(folder):
    """What the program's `generate` continues the folder's prompts with, greedily, in batches of 7."""
    prompts = load_file(folder / "parity.safetensors")["prompts"].tolist()
    lines = "\n".join(json.dumps({"ids": ids}) for ids in prompts)
    flags = ["--temperature", 0, "--max-new-tokens", 64, "--batch-size", 7, "--output", "json", "--max-context", 128]
    out = run("generate", "--checkpoint", folder, "--prompts", "-", "--prompts-format", "jsonl", *flags, stdin=lines)
    return [json.loads(line)["ids"] for line in out.splitlines()]


def agrees(ids, greedy):
    """generate ends at EOS and never draws what no piece of the tokenizer (600) stands for; the proof goes on."""
    ends = [i for i, token in enumerate(greedy) if token == 2 or token >= 600]
    end = ends[0] if ends else len(greedy)
    return ids[:end] == greedy[:end] and (end == len(greedy) or greedy[end] >= 600 or len(ids) == end)


def quiet(folder):
    """Failed comparisons of a folder that should have some; an error while loading counts as one."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            failed = check_folder(folder, tolerance=1e-4 * LARGEST_ON_A_GPU)  # what is noticed there too
        except Exception as error:  # noqa: BLE001  whatever transformers throws, the folder was not accepted
            failed = 1
            print(error)
    return failed


def check_architecture(name):
    print(f"== {name}", flush=True)
    train(name)
    folder = export(name, name + "-hf", "--dtype", "fp32", "--parity-prompts", "20", "--parity-tokens", "64")
    wanted = ARCHITECTURES[name][2] + "ForCausalLM"
    expect(json.loads((folder / "config.json").read_text())["architectures"] == [wanted], f"{name} is a {wanted}")
    expect(check_folder(folder) == 0, f"{name} in fp32")
    expect(all(map(agrees, generated(folder), greedy_of(folder))), f"{name}: generate, in batches")
    expect(check_folder(export(name, name + "-bf16", "--dtype", "bf16")) == 0, f"{name} with weights in bf16")


def check_sixteen_bit_loading():
    """Loaded in bf16, what is too coarse in it stays f32, and what was loaded is what the file holds."""
    folder = WORK / "transxssm-bf16"
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.bfloat16)
    held = load_file(folder / "model.safetensors")
    for name, parameter in model.named_parameters():
        if name.endswith((".A", "dt_proj.bias", "layernorm.weight", "residual.weight")):
            same = parameter.dtype == torch.float32 and torch.equal(parameter.detach(), held[name])
            expect(same, f"{name} as stored") if not same else None
        elif name.endswith("proj.weight") and "dt_proj" not in name:
            expect(parameter.dtype == torch.bfloat16, f"{name} in bf16") if parameter.dtype != torch.bfloat16 else None
    with torch.no_grad():
        logits = model(torch.arange(1, 60)[None]).logits
    expect(logits.dtype == torch.bfloat16 and bool(logits.isfinite().all()), "bf16 model computes")


def mutate(name, change_tensors=None, edit=None):
    """A copy of an exported folder with other weights or another line of Python."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mutant_", dir=WORK))  # Python files are cached by folder name
    shutil.rmtree(folder)
    shutil.copytree(WORK / (name + "-hf"), folder)
    if change_tensors:
        tensors = load_file(folder / "model.safetensors")
        change_tensors(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if edit:
        file, before, after = edit
        text = (folder / file).read_text()
        assert before in text, f"{file} no longer has: {before}"
        (folder / file).write_text(text.replace(before, after))
    return folder


def swap_heads(tensor, width):
    tensor[: 2 * width] = torch.cat([tensor[width : 2 * width], tensor[:width]])


def check_mutations():
    print("== what must be noticed", flush=True)

    def negate(name):
        return lambda tensors: tensors[name].neg_()

    def swap(name, width):
        return lambda tensors: swap_heads(tensors[name], width)

    layer = "model.layers.0.ssd."
    cases = {
        "wrong sign of A": mutate_later("transxssm", negate(layer + "A")),
        "dt bias lost": mutate_later("transxssm", lambda tensors: tensors[layer + "dt_proj.bias"].zero_()),
        "permuted heads of X": mutate_later("transxssm", swap(layer + "x_proj.weight", 16)),
        "permuted heads of Q": mutate_later("llama", swap("model.layers.0.self_attn.q_proj.weight", 16)),
        "permuted columns of a packed projection": mutate_later("mamba2", swap("backbone.layers.0.mixer.in_proj.weight", 16)),
        "wrong sign of A_log": mutate_later("mamba2", negate("backbone.layers.0.mixer.A_log")),
        "norm at its initial value": mutate_later("transxssm", lambda t: t["model.final_layernorm.weight"].fill_(1)),
        "a tensor missing": mutate_later("transxssm", lambda tensors: tensors.pop(layer + "A")),
        "a tensor too many": mutate_later("transxssm", lambda t: t.update({layer + "E": torch.ones(3)})),
        "documents not reset": mutate_later(
            "transxssm", edit=("modeling_transxssm.py", "starts.cumsum(-1)", "0 * starts.cumsum(-1)")
        ),
        "convolution not reset": mutate_later(
            "hybrid-plain", edit=("mixers_transxssm.py", "seen.unsqueeze(-1)", "torch.ones_like(seen).unsqueeze(-1)")
        ),
        "padding enters the state": mutate_later(
            "transxssm", edit=("mixers_transxssm.py", "threshold=40) * tokens.valid.unsqueeze(-1)", "threshold=40)")
        ),
        "rotation backwards": mutate_later(
            "transxssm", edit=("mixers_transxssm.py", "x1 * cos - x2 * sin, x2 * cos + x1 * sin", "x1 * cos, x2 * cos")
        ),
        "state not carried while decoding": mutate_later(
            "transxssm", edit=("mixers_transxssm.py", "cache.layers[self.layer] = held", "pass")
        ),
    }
    in_tokenizer_config = {
        "no BOS": ('"add_bos_token": true', '"add_bos_token": false'),
        "another BOS": ('"bos_token": "<s>"', '"bos_token": "</s>"'),
        "padding on the right": ('"padding_side": "left"', '"padding_side": "right"'),
        "a space before the text": ('"dummy_prefix": false', '"dummy_prefix": true'),
        "text converted as the library does": ('"exact": true', '"exact": false'),
    }
    for what, (before, after) in in_tokenizer_config.items():
        cases[what] = mutate_later("transxssm", edit=("tokenizer_config.json", before, after))
    for what, make in cases.items():
        expect(quiet(make()) > 0, f"noticed: {what}")


def mutate_later(*arguments, **named):
    return lambda: mutate(*arguments, **named)


def texts():
    """10 000 lines of the shipped text."""
    documents = run_zstd(SOURCE / "data" / "train.jsonl.zst").splitlines()
    return [line for document in documents for line in json.loads(document)["text"].split("\n") if line][:10000]


def run_zstd(file):
    return subprocess.run(["zstd", "-dc", file], capture_output=True, text=True, check=True).stdout


def check_tokenizer():
    """The program encodes a text as a whole, so lines are compared in blocks; awkward strings are in parity.json."""
    tokenizer = AutoTokenizer.from_pretrained(WORK / "transxssm-hf", trust_remote_code=True)
    lines, wrong = texts(), 0
    blocks = ["\n".join(lines[i : i + 400]) for i in range(0, len(lines), 400)]
    for block in blocks:
        ours = [int(word) for word in run("tokenizer", "encode", "--tokenizer", "tok.model", stdin=block).split()]
        ids = tokenizer(block, add_special_tokens=False)["input_ids"]
        wrong += ids != ours or tokenizer.decode(ids) != block
    expect(wrong == 0, f"ids of {len(lines)} lines of text, and the text back from them")
    with_bos = tokenizer("A <s> river")["input_ids"]
    expect(with_bos[0] == 1 and with_bos.count(1) == 1, "BOS at the start only")
    expect(tokenizer.decode(with_bos, skip_special_tokens=True) == "A <s> river", "special tokens skipped")
    padded = tokenizer(["A", "A longer text"], padding=True, return_tensors="pt")
    expect(padded["attention_mask"][0].tolist()[0] == 0, "padding on the left")
    tokenizer.save_pretrained(WORK / "again")
    again = AutoTokenizer.from_pretrained(WORK / "again", trust_remote_code=True)
    expect(again("<s> \u2581\0 é")["input_ids"] == tokenizer("<s> \u2581\0 é")["input_ids"], "saved and loaded again")
    padding = tokenizer.convert_ids_to_tokens([620, 639])
    expect(padding == ["", ""] and tokenizer.convert_tokens_to_string(padding) == "", "ids past the pieces are nothing")


def raises(call, says):
    try:
        call()
    except ValueError as error:
        return says in str(error)
    return False


def check_calls():
    """What transformers' own tools ask of a model: it is done, or refused with the reason."""
    model = AutoModelForCausalLM.from_pretrained(WORK / "everything-hf", trust_remote_code=True).eval()
    ids = torch.arange(3, 40)[None]
    embeddings = model.get_input_embeddings()(ids).detach()

    def generate(**named):
        return model.generate(max_new_tokens=9, do_sample=False, pad_token_id=0, **named)

    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
        expect(len(out.hidden_states) == 5, "hidden states of every layer")
        expect(torch.equal(model(ids, return_dict=False)[0], out.logits), "return_dict=False gives a tuple")
        expect(torch.equal(model(inputs_embeds=embeddings).logits, out.logits), "inputs_embeds")
        long = generate(input_ids=ids)
        expect(torch.equal(generate(inputs_embeds=embeddings), long[:, 37:]), "generate from inputs_embeds")
        cache = {CACHE: getattr(model(long[:, :40], use_cache=True), CACHE)}
        expect(torch.equal(generate(input_ids=long[:, :45], **cache), generate(input_ids=long[:, :45])), "generate from a cache")
        mean, total = model(ids, labels=ids).loss, model(ids, labels=ids, num_items_in_batch=72).loss
        expect(torch.allclose(mean, 2 * total), "loss by the labels of all micro-batches")
    expect(raises(lambda: model(ids, output_attentions=True), "output_attentions"), "refused: output_attentions")
    expect(raises(lambda: model(), "input_ids and inputs_embeds"), "refused: no input")
    expect(raises(lambda: generate(input_ids=ids, prompt_lookup_num_tokens=3), "stateful"), "refused: prompt lookup")


def make_foreign_tokenizer(folder):
    """A tokenizer of the tokenizers package, in a folder as one of a whole model."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    tokenizer.train_from_iterator(texts()[:500], trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    named = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), special))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    for name in ("extra_of_its_class.dat", "model.safetensors", "config.json", "modeling_other.py", "README.md", ".hidden"):
        (folder / name).write_text("{}")


def check_foreign_tokenizer():
    print("== somebody else's tokenizer", flush=True)
    foreign = WORK / "foreign"
    make_foreign_tokenizer(foreign)
    wanted = AutoTokenizer.from_pretrained(foreign)
    for name in ("transxssm", "llama"):
        folder = export(name, name + "-foreign", "--dtype", "fp32", "--tokenizer", foreign)
        got = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        text = "A <s> river\n\u2581 é"
        expect(got(text)["input_ids"] == wanted(text)["input_ids"], f"{name}: its ids")
        expect(check_folder(folder) == 0, f"{name}: check_export")
        for file in ("config.json", "generation_config.json"):
            ids = json.loads((folder / file).read_text())
            expect([ids[key + "_token_id"] for key in ("bos", "eos", "pad")] == [1, 2, 3], f"{name}: special ids in {file}")
        for kept in ("tokenizer.json", "tokenizer_config.json", "extra_of_its_class.dat"):
            expect((folder / kept).read_bytes() == (foreign / kept).read_bytes(), f"{name}: {kept} unchanged")
        for left in ("modeling_other.py", "README.md", ".hidden"):
            expect(not (folder / left).exists(), f"{name}: without {left}")
        run("import", "--from", folder, "--to", name + "-imported")
        again = export(name + "-imported", name + "-again", "--dtype", "fp32")
        held = {file.name: file.read_bytes() for file in folder.iterdir()}
        expect({file.name: file.read_bytes() for file in again.iterdir()} == held, f"{name}: imported and exported again, the same bytes")


def main():
    run("tokenizer", "train", "--input", SOURCE / "data" / "validation.jsonl.zst", "--output", "tok", "--vocab-size", 600)
    run("data", "prepare", "--input", SOURCE / "data" / "validation.jsonl.zst", "--tokenizer", "tok.model", "--output", "data")
    for name in ARCHITECTURES:
        check_architecture(name)
    check_sixteen_bit_loading()
    check_mutations()
    check_tokenizer()
    check_foreign_tokenizer()
    check_calls()
    print(f"{len(failures)} failures", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
