#!/usr/bin/env python3
"""Loads an exported folder with transformers and repeats the comparison that `transxssm export` made.

    scripts/check_export.py DIR [--device cuda] [--tolerance 1e-4]

Compares with what the program put into parity.safetensors and parity.json: logits of a long document and of several
short ones, alone, packed and left-padded; greedy continuations; ids of awkward text. Needs torch, transformers,
safetensors and, for our own tokenizer, sentencepiece. Computes in fp32, on a GPU without TF32. Exit code 0: all the
same; 1: something differs.
"""
import argparse
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


# Both sides add in fp32, on a CPU in nearly the same order. A GPU's sums run in others, which single logits show: of a
# model of 369 M parameters one differed by 1.2e-3 on an H100 (3e-5 on a CPU), all of them on average by 1.9e-5. A wrong
# sign, a missing reset and permuted heads move a tiny model's logits by more than this (tests/export).
LARGEST_ON_A_GPU = 50


class Check:
    """Logits may differ by `tolerance` on average, and at most by `largest`."""

    def __init__(self, tolerance, largest):
        self.tolerance = tolerance
        self.largest = largest
        self.failed = 0

    def that(self, holds, name, found):
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {found}", flush=True)

    def logits(self, name, got, wanted):
        difference = (got.float().cpu() - wanted).abs()
        greedy = (got.argmax(-1).cpu() == wanted.argmax(-1)).float().mean().item()
        largest, mean = difference.max().item(), difference.mean().item()
        self.that(
            largest <= self.largest and mean <= self.tolerance,  # false for NaN too
            name,
            f"logits differ by at most {largest:.2e} (limit {self.largest:.0e}), on average by {mean:.2e} "
            f"(limit {self.tolerance:.0e}); same greedy token {100 * greedy:.1f} %",
        )


def documents_of(tokens, positions):
    """The documents that the flattened tokens hold, each as ids."""
    starts = (positions.flatten() == 0).nonzero().flatten().tolist()
    return tokens.flatten().tensor_split(starts[1:])


def check_documents(check, model, held):
    """Each document alone, and all left-padded as one batch: what transformers' own batching does."""
    documents = documents_of(held["tokens"], held["positions"])
    alone = torch.cat([model(ids[None].to(model.device)).logits[0] for ids in documents])
    check.logits("documents alone", alone[held["places"]], held["logits"])
    longest = max(ids.numel() for ids in documents)
    batch = torch.zeros(len(documents), longest, dtype=torch.long)
    mask = torch.zeros_like(batch)
    for row, ids in enumerate(documents):
        batch[row, longest - ids.numel() :] = ids
        mask[row, longest - ids.numel() :] = 1
    out = model(batch.to(model.device), attention_mask=mask.to(model.device)).logits
    padded = torch.cat([out[row, longest - ids.numel() :] for row, ids in enumerate(documents)])
    check.logits("documents left-padded", padded[held["places"]], held["logits"])


def check_packed(check, model, held):
    """Several documents in a row, told apart by positions: our own classes only."""
    out = model(held["tokens"].to(model.device), position_ids=held["positions"].to(model.device)).logits
    check.logits("documents packed", out.flatten(0, 1)[held["places"]], held["logits"])


def check_greedy(check, model, held):
    prompts, wanted = held["prompts"], held["greedy"]
    if wanted.numel() == 0:
        return
    model.generation_config.eos_token_id = None  # the program went on to the full length
    out = model.generate(
        prompts.to(model.device), attention_mask=torch.ones_like(prompts).to(model.device), do_sample=False,
        max_new_tokens=wanted.shape[1], pad_token_id=0,
    )  # fmt: skip
    got = out[:, prompts.shape[1] :].cpu()
    same = (got == wanted).all(dim=1).sum().item()
    check.that(same == len(wanted), "greedy tokens", f"{same} of {len(wanted)} prompts agree for {wanted.shape[1]} tokens")


def check_tokenizer(check, folder, samples, config):
    """`samples` are those of our own tokenizer, and none where the folder has another one, or no tokenizer."""
    if not (folder / "tokenizer_config.json").exists() and not (folder / "tokenizer.json").exists():
        return
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    pairs = {name: (getattr(tokenizer, name), getattr(config, name)) for name in names}
    other = {name: ids for name, ids in pairs.items() if ids[0] != ids[1] and (samples or None not in ids)}
    check.that(not other, "special ids", f"in the tokenizer and in config.json {other}" if other else "as in config.json")
    if not samples:
        return
    bos = [] if config.bos_token_id is None else [config.bos_token_id]

    def same(text, ids):
        return (
            tokenizer(text, add_special_tokens=False)["input_ids"] == ids
            and tokenizer(text)["input_ids"] == bos + ids
            and (not tokenizer.exact or tokenizer.decode(ids) == text)
        )

    wrong = [sample["text"] for sample in samples if not same(**sample)]
    check.that(not wrong, "tokenizer", f"{len(samples) - len(wrong)} of {len(samples)} texts give our ids, and are given back")
    for text in wrong:
        print(f"     not so {text!r}")
    check.that(tokenizer.padding_side == "left", "padding", f"on the {tokenizer.padding_side}")


def check_loading(check, folder):
    """What transformers says about missing, superfluous and misshapen tensors, and that none was initialised anew."""
    model, said = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.float32, output_loading_info=True
    )
    complaints = {key: list(value) for key, value in said.items() if value and key != "error_msgs"}
    check.that(not complaints and not said.get("error_msgs"), "loading", complaints or "every tensor has its place")
    return model.eval()


def check_folder(folder, device="cpu", tolerance=1e-4):
    """How many of the comparisons fail; each is printed."""
    report = json.loads((folder / "parity.json").read_text())
    held = load_file(folder / "parity.safetensors")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    check = Check(tolerance, tolerance * (1 if device == "cpu" else LARGEST_ON_A_GPU))
    model = check_loading(check, folder).to(device)
    with torch.no_grad():
        check_documents(check, model, held)
        if model.config.model_type == "TransXSSM":
            check_packed(check, model, held)
        check_greedy(check, model, held)
    check_tokenizer(check, folder, report["tokenizer"], model.config)
    print(f"{folder}: {'FAILED' if check.failed else 'the same as the program'} ({type(model).__name__})")
    return check.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4,
        help=f"largest difference of a logit on a CPU; on a GPU the mean, and 1/{LARGEST_ON_A_GPU} of the largest",
    )  # fmt: skip
    options = parser.parse_args()
    return 1 if check_folder(options.folder, options.device, options.tolerance) else 0


if __name__ == "__main__":
    sys.exit(main())
