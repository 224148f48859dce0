# Imported target LibTorch::torch, made from the files of a PyTorch wheel or a LibTorch archive.
#
# Torch's own CMake package is not used: it demands a CUDA toolkit, rewrites CMAKE_CUDA_FLAGS for the
# whole project and picks the GPU architectures itself.
#
# Looked for, in this order: -DTRANSXSSM_TORCH_ROOT, Torch_DIR, CMAKE_PREFIX_PATH, the download cache
# that scripts/setup.sh fills, the PyTorch of python3. The root is the folder that holds include and lib.
set(TRANSXSSM_TORCH_ROOT "" CACHE PATH "Folder with LibTorch's include and lib; empty: search")

if(DEFINED ENV{TRANSXSSM_CACHE})
  set(_cache $ENV{TRANSXSSM_CACHE})
else()
  set(_cache $ENV{HOME}/.cache/transxssm)
endif()

set(_torch_candidates ${TRANSXSSM_TORCH_ROOT})
if(Torch_DIR)
  list(APPEND _torch_candidates ${Torch_DIR}/../../..)
endif()
list(APPEND _torch_candidates ${CMAKE_PREFIX_PATH} ${_cache}/torch-2.11.0-cu130/torch)

function(_find_torch_root out)
  foreach(candidate IN LISTS ARGN)
    if(EXISTS ${candidate}/include/ATen/core/Tensor.h AND EXISTS ${candidate}/lib/libtorch_cpu.so)
      get_filename_component(candidate ${candidate} REALPATH)
      set(${out} ${candidate} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${out} "" PARENT_SCOPE)
endfunction()

_find_torch_root(TORCH_ROOT ${_torch_candidates})
if(NOT TORCH_ROOT)
  execute_process(
    COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  _find_torch_root(TORCH_ROOT ${_python_torch})
endif()
if(NOT TORCH_ROOT)
  message(FATAL_ERROR "LibTorch not found. Run scripts/setup.sh, or pass -DTRANSXSSM_TORCH_ROOT=DIR "
                      "where DIR holds include/ATen and lib/libtorch_cpu.so")
endif()
file(STRINGS ${TORCH_ROOT}/include/torch/headeronly/version.h _version_line REGEX "define TORCH_VERSION ")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" TORCH_VERSION "${_version_line}")
message(STATUS "LibTorch ${TORCH_VERSION}: ${TORCH_ROOT}")

add_library(LibTorch::torch INTERFACE IMPORTED)
target_include_directories(LibTorch::torch SYSTEM INTERFACE
  ${TORCH_ROOT}/include ${TORCH_ROOT}/include/torch/csrc/api/include)

# libtorch_cuda is kept although nothing refers to its symbols: loading it registers the CUDA kernels.
set(_torch_libraries torch_cpu c10)
if(TRANSXSSM_HAVE_CUDA)
  list(APPEND _torch_libraries torch_cuda c10_cuda)
  target_link_libraries(LibTorch::torch INTERFACE CUDA::cudart)
  target_compile_definitions(LibTorch::torch INTERFACE TRANSXSSM_HAVE_CUDA=1)
endif()
target_link_options(LibTorch::torch INTERFACE -Wl,--no-as-needed)
foreach(library IN LISTS _torch_libraries)
  target_link_libraries(LibTorch::torch INTERFACE ${TORCH_ROOT}/lib/lib${library}.so)
endforeach()

# What the wheel's libraries need in turn: its RPATH finds them at run time, the linker has to be told.
file(GLOB _nvidia_dirs ${TORCH_ROOT}/../nvidia/*/lib)
foreach(dir IN LISTS _nvidia_dirs)
  target_link_options(LibTorch::torch INTERFACE -Wl,-rpath-link,${dir})
endforeach()
