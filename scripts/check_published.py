#!/usr/bin/env python3
"""Loads an exported TransXSSM folder with the classes that its authors published, and compares logits.

    scripts/check_published.py DIR configuration_transxssm.py modeling_transxssm.py [--tolerance 1e-4]

The two files are the authors' (github.com/wubingheng111/transxssm) and not part of this repository. They need a
transformers of the 4.x line; the Triton scan that they import from mamba_ssm is replaced by plain PyTorch here, so that
this runs on a CPU. Compares with parity.safetensors of the folder, in fp32. Exit code 0: the same; 1: not.
"""
import argparse
import importlib
import pathlib
import shutil
import sys
import tempfile
import types

import torch
import transformers
from check_export import documents_of
from safetensors.torch import load_file

MODULES = ("configuration_transxssm.py", "modeling_transxssm.py")


def scan(x, dt, A, B, C, chunk_size, return_final_states=False, dt_bias=None, dt_softplus=False, **_):
    """y_t = S_t C_t with S_t = exp(A dt_t) S_{t-1} + dt_t x_t B_t^T, token by token. x [b, l, h, p], dt [b, l, h],
    A [h], B and C [b, l, h, n]; A is taken as it comes, so a positive one grows."""
    dt = dt.float() if dt_bias is None else dt.float() + dt_bias
    dt = torch.nn.functional.softplus(dt) if dt_softplus else dt
    state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3], dtype=torch.float32)
    outputs = []
    for t in range(x.shape[1]):
        step = dt[:, t, :, None, None]
        update = step * x[:, t, :, :, None].float() * B[:, t, :, None, :].float()
        state = torch.exp(A.float()[:, None, None] * step) * state + update
        outputs.append((state @ C[:, t, :, :, None].float()).squeeze(-1))
    y = torch.stack(outputs, dim=1).to(x.dtype)
    return (y, state) if return_final_states else y


def stand_in_for_mamba_ssm():
    def unused(*_, **__):
        raise NotImplementedError("only the scan over a whole text is replaced")

    held = {
        "mamba_ssm": {}, "mamba_ssm.ops": {}, "mamba_ssm.ops.triton": {},
        "mamba_ssm.ops.triton.selective_state_update": {"selective_state_update": unused},
        "mamba_ssm.ops.triton.ssd_combined": {
            "mamba_chunk_scan_combined": scan, "mamba_split_conv1d_scan_combined": unused,
        },
    }  # fmt: skip
    for name, contents in held.items():
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        sys.modules[name] = module
    import transformers.utils.import_utils as import_utils

    import_utils.is_mamba_2_ssm_available = lambda: True


def published_classes(files, folder):
    """Configuration and model class from the authors' files, imported as a package in `folder`."""
    given = {file.name: file for file in files}
    if set(given) != set(MODULES):
        sys.exit(f"expected the files {' and '.join(MODULES)}, got {' and '.join(sorted(given))}")
    package = folder / "published"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, file in given.items():
        shutil.copyfile(file, package / name)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    configuration = importlib.import_module("published.configuration_transxssm").TransXSSMConfig
    return configuration, importlib.import_module("published.modeling_transxssm").TransXSSMForCausalLM


def check(folder, files, tolerance):
    if not transformers.__version__.startswith("4."):
        sys.exit(f"the published files need transformers 4.x, this is {transformers.__version__}")
    stand_in_for_mamba_ssm()
    with tempfile.TemporaryDirectory(prefix="transxssm_published_") as scratch:
        configuration, model_class = published_classes(files, pathlib.Path(scratch))
        config = configuration.from_pretrained(folder)
        model, said = model_class.from_pretrained(
            folder, config=config, torch_dtype=torch.float32, output_loading_info=True
        )
    failed = 0
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        failed += bool(said[key])
        print(f"{'FAIL' if said[key] else 'ok  '} {key}: {sorted(map(str, said[key]))[:8]}")
    held = load_file(folder / "parity.safetensors")
    with torch.no_grad():
        documents = documents_of(held["tokens"], held["positions"])
        logits = torch.cat([model.eval()(ids[None], use_cache=False).logits[0] for ids in documents])
    difference = (logits[held["places"]].float() - held["logits"]).abs().max().item()
    same = difference <= tolerance  # false for NaN too
    print(f"{'ok  ' if same else 'FAIL'} logits differ by at most {difference:.2e} (limit {tolerance:.0e})")
    return failed + (not same)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("files", type=pathlib.Path, nargs=2, metavar="FILE")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of a logit")
    options = parser.parse_args()
    return 1 if check(options.folder, options.files, options.tolerance) else 0


if __name__ == "__main__":
    sys.exit(main())
