#!/usr/bin/env bash
# Installs what is missing to build transxssm on Debian 12 or Ubuntu 24.04, and says what before it does.
#
#   scripts/setup.sh       install
#   . scripts/setup.sh     the same for a script: cmake, ninja and clang-format are then on PATH, and
#                          TRANSXSSM_PRESET is `release` where there is a CUDA 13 toolkit, else `cpu`
#
# Distribution packages come through apt (needs root or sudo). CMake, ninja, clang-format, LibTorch and, for builds with
# CUDA, the headers of cuDNN's frontend come through pip into ${TRANSXSSM_CACHE:-~/.cache/transxssm}, outside the clone,
# and are reused by every clone. An existing PyTorch 2.11 is taken instead of the download: that of $Torch_DIR, or of
# python3. scripts/test.sh adds transformers and lm_eval for the tests of exported
# folders (0.8 GB).

transxssm_apt_packages=(
  ca-certificates python3 python3-venv g++ pkg-config mold ccache
  catch2 libcli11-dev libsentencepiece-dev libspdlog-dev libxxhash-dev libyaml-cpp-dev libzstd-dev
  nlohmann-json3-dev sentencepiece zlib1g-dev
)
transxssm_tools=(cmake==4.1.2 ninja==1.13.0 clang-format==14.0.6)
# For the tests of exported folders: transformers, what our tokenizer needs, and what PyTorch's Python half needs.
transxssm_test_packages=(
  transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6 sentencepiece==0.2.3
  jinja2==3.1.6 networkx==3.6.1 sympy==1.14.0
)
# For the comparison of `eval` with lm-evaluation-harness: what it needs, and two packages of which pip would take
# PyTorch as well.
transxssm_harness_packages=(
  datasets==5.2.0 evaluate==0.4.6 dill==0.4.1 more-itertools==11.2.1 psutil==7.2.2 pytablewriter==1.2.1
  rouge-score==0.1.2 sacrebleu==2.6.0 scikit-learn==1.9.1 sqlitedict==2.1.0 word2number==1.1
)
transxssm_harness=(lm_eval==0.4.13 accelerate==1.15.0)
transxssm_torch_version=2.11.0
transxssm_cudnn_frontend_version=1.18.0

# Wheel that holds a library which LibTorch loads; used for those that neither the system nor the wheel has.
transxssm_wheel_of() {
  case "$1" in
    libcudart.so.*) echo 'cuda-toolkit[cudart]==13.0.2' ;;
    libcupti.so.*) echo 'cuda-toolkit[cupti]==13.0.2' ;;
    libcublas.so.* | libcublasLt.so.*) echo 'cuda-toolkit[cublas]==13.0.2' ;;
    libcufft.so.*) echo 'cuda-toolkit[cufft]==13.0.2' ;;
    libcufile.so.*) echo 'cuda-toolkit[cufile]==13.0.2' ;;
    libcurand.so.*) echo 'cuda-toolkit[curand]==13.0.2' ;;
    libcusparse.so.*) echo 'cuda-toolkit[cusparse]==13.0.2' ;;
    libnvJitLink.so.*) echo 'cuda-toolkit[nvjitlink]==13.0.2' ;;
    libcudnn.so.*) echo nvidia-cudnn-cu13==9.19.0.56 ;;
    libnccl.so.*) echo nvidia-nccl-cu13==2.28.9 ;;
    libcusparseLt.so.*) echo nvidia-cusparselt-cu13==0.8.0 ;;
    libnvshmem_host.so.*) echo nvidia-nvshmem-cu13==3.4.5 ;;
    *) return 1 ;;
  esac
}

transxssm_say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
transxssm_fail() { printf 'setup: %s\n' "$*" >&2; return 1; }

transxssm_install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    transxssm_say "Not a Debian or Ubuntu system: if the build misses something, install ${transxssm_apt_packages[*]}"
    return 0
  fi
  local installed missing=() package as_root=()
  installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${transxssm_apt_packages[@]}" 2>/dev/null)
  for package in "${transxssm_apt_packages[@]}"; do
    [[ $'\n'$installed$'\n' == *$'\n'"$package installed"$'\n'* ]] || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || {
      transxssm_fail "needs root, or sudo, to install: ${missing[*]}"
      return 1
    }
    as_root=(sudo)
  fi
  transxssm_say "Installing with apt: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    transxssm_fail "apt-get failed, see above"
}

# Installs packages $3... in the virtual environment $1. It cannot be renamed into place, so the file $2, written last,
# says that they are all there.
transxssm_install_python() {
  local tools=$1 complete=$1/$2 wanted="${*:3}"
  [[ -f $complete && $(<"$complete") == "$wanted" ]] && "$tools/bin/python" -c '' 2>/dev/null && return 0
  transxssm_say "Installing with pip into $tools: $wanted"
  { [[ -x $tools/bin/python ]] && "$tools/bin/python" -m pip --version >/dev/null 2>&1; } ||
    python3 -m venv --clear "$tools" || return 1
  "$tools/bin/python" -m pip install -q --disable-pip-version-check "${@:3}" &&
    printf '%s' "$wanted" >"$complete" || transxssm_fail "pip failed, see above"
}

# What scripts/test.sh needs beyond the build.
transxssm_setup_tests() {
  local cache=${TRANSXSSM_CACHE:-$HOME/.cache/transxssm} lock status
  exec {lock}>"$cache/lock" && flock "$lock" || return 1
  transxssm_install_python "$cache/tools" complete-tests "${transxssm_test_packages[@]}" &&
    transxssm_install_python "$cache/tools" complete-harness "${transxssm_harness_packages[@]}" &&
    transxssm_install_python "$cache/tools" complete-lm-eval --no-deps "${transxssm_harness[@]}"
  status=$?
  exec {lock}>&-
  return $status
}

# Prints the first of the folders $@ that holds LibTorch of the right version, with its CUDA half if that is needed.
transxssm_find_torch() {
  local root header library=libtorch_cuda.so
  [[ $TRANSXSSM_PRESET == cpu ]] && library=libtorch_cpu.so
  for root in "$@"; do
    header=$root/include/torch/headeronly/version.h
    if [[ -f $root/lib/$library && -f $header ]] && grep -q "TORCH_VERSION_MINOR 11$" "$header"; then
      realpath "$root"
      return 0
    fi
  done
  return 1
}

# Wheels with the libraries that LibTorch in folder $1 needs and the loader does not find, one a line.
transxssm_missing_wheels() {
  local library=$1/lib/libtorch_cuda.so name
  [[ $TRANSXSSM_PRESET == cpu ]] && library=$1/lib/libtorch_cpu.so
  ldd "$library" 2>/dev/null | awk '/not found/ {print $1}' | while read -r name; do
    transxssm_wheel_of "$name" || printf 'setup: LibTorch needs %s, which no known wheel holds\n' "$name" >&2
  done | sort -u
}

# Adds to site folder $1 what LibTorch still misses. Wheels go to a folder of their own first: pip would replace the
# shared nvidia/ folder as a whole. Installing one library may show that it needs another.
transxssm_complete_torch() {
  local site=$1 wheels staged=$1.wheels
  while wheels=$(transxssm_missing_wheels "$site/torch") && [[ -n $wheels ]]; do
    transxssm_say "Installing with pip into $site:" $wheels
    rm -rf "$staged"
    "$tools/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir --no-compile \
      --target "$staged" $wheels && cp -rlf "$staged"/. "$site" || return 1
    rm -rf "$staged"
    [[ $(transxssm_missing_wheels "$site/torch") != "$wheels" ]] || {
      transxssm_fail "LibTorch in $site still misses what these should hold: $wheels"
      return 1
    }
  done
}

transxssm_install_torch() {
  local tools=$1 site=$2 staged=$2.partial existing
  if [[ -n ${Torch_DIR:-} ]] && transxssm_find_torch "$Torch_DIR/../../.." >/dev/null; then
    return 0
  elif [[ -d $site ]]; then
    transxssm_complete_torch "$site"
    return
  elif existing=$(transxssm_find_torch "$(python3 -c 'import importlib.util as u
print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null)"); then
    export Torch_DIR=$existing/share/cmake/Torch
    return 0
  fi
  transxssm_say "Downloading LibTorch $transxssm_torch_version (530 MB, 1.1 GB on disk) into $site"
  rm -rf "$staged" "$staged.wheels"
  mkdir -p "$staged"
  "$tools/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
    --target "$staged" "torch==$transxssm_torch_version" && transxssm_complete_torch "$staged" &&
    mv "$staged" "$site" || transxssm_fail "LibTorch was not installed, see above"
}

# cuDNN's C++ frontend, header-only (MIT licence): for builds with CUDA.
transxssm_install_cudnn_frontend() {
  local tools=$1 folder=$2 staged=$2.partial
  [[ $TRANSXSSM_PRESET == cpu || -d $folder ]] && return 0
  transxssm_say "Downloading the headers of cuDNN's frontend $transxssm_cudnn_frontend_version into $folder"
  rm -rf "$staged"
  "$tools/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
    --target "$staged" "nvidia-cudnn-frontend==$transxssm_cudnn_frontend_version" && mv "$staged" "$folder" ||
    transxssm_fail "cuDNN's frontend was not installed, see above"
}

# Puts an nvcc of CUDA 13 on PATH if there is one.
transxssm_find_toolkit() {
  local nvcc folder
  for folder in "${CUDACXX:+$(dirname "$CUDACXX")}" "" "${CUDA_HOME:+$CUDA_HOME/bin}" /usr/local/cuda/bin; do
    nvcc=${folder:+$folder/}nvcc
    command -v "$nvcc" >/dev/null && [[ $("$nvcc" --version) == *"release 13."* ]] || continue
    [[ -n $folder ]] && PATH=$folder:$PATH
    return 0
  done
  return 1
}

transxssm_setup() {
  [[ $(uname -sm) == "Linux x86_64" ]] || {
    transxssm_fail "LibTorch's CUDA wheel is for x86-64 Linux, this is $(uname -sm)"
    return 1
  }
  local cache=${TRANSXSSM_CACHE:-$HOME/.cache/transxssm}
  local tools=$cache/tools
  mkdir -p "$cache" || return 1
  TRANSXSSM_PRESET=cpu
  transxssm_find_toolkit && TRANSXSSM_PRESET=release
  local lock status  # two clones may be set up at once
  exec {lock}>"$cache/lock" && flock "$lock" || return 1
  transxssm_install_packages && transxssm_install_python "$tools" complete "${transxssm_tools[@]}" &&
    transxssm_install_torch "$tools" "$cache/torch-$transxssm_torch_version-cu130" &&
    transxssm_install_cudnn_frontend "$tools" "$cache/cudnn-frontend-$transxssm_cudnn_frontend_version"
  status=$?
  exec {lock}>&-
  export PATH=$tools/bin:$PATH TRANSXSSM_PRESET
  return $status
}

if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
  transxssm_setup
else
  transxssm_setup && transxssm_say "Ready. Build with scripts/test.sh or scripts/quickstart.sh (preset $TRANSXSSM_PRESET)"
fi
