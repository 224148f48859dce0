# Imported target LibTorch::torch, made from the files of a PyTorch wheel or a LibTorch archive.
#
# Torch's own CMake package is not used: it demands a CUDA toolkit, rewrites CMAKE_CUDA_FLAGS for the
# whole project and picks the GPU architectures itself.
#
# Looked for, in this order: TRANSXSSM_TORCH_ROOT, Torch_DIR (variable, then environment), CMAKE_PREFIX_PATH, the
# download cache that scripts/setup.sh fills, the PyTorch of python3. What was found is kept in TRANSXSSM_TORCH_ROOT.
set(TRANSXSSM_TORCH_ROOT "" CACHE PATH "Folder with LibTorch's include and lib; empty: search")
set(_torch_wanted 2.11)

if(DEFINED ENV{TRANSXSSM_CACHE})
  set(_cache $ENV{TRANSXSSM_CACHE})
else()
  set(_cache $ENV{HOME}/.cache/transxssm)
endif()

set(_torch_candidates ${TRANSXSSM_TORCH_ROOT})
foreach(dir IN ITEMS ${Torch_DIR} $ENV{Torch_DIR})
  list(APPEND _torch_candidates ${dir}/../../..)
endforeach()
list(APPEND _torch_candidates ${CMAKE_PREFIX_PATH} ${_cache}/torch-2.11.0-cu130/torch)

# The first of the folders ARGN that holds the wanted version, with its CUDA half if that is needed.
function(_find_torch_root out)
  set(${out} "" PARENT_SCOPE)
  foreach(candidate IN LISTS ARGN)
    set(header ${candidate}/include/torch/headeronly/version.h)
    if(NOT EXISTS ${candidate}/lib/libtorch_cpu.so OR NOT EXISTS ${header})
      continue()
    endif()
    file(REAL_PATH ${candidate} candidate)
    file(STRINGS ${header} lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX MATCHALL "[0-9]+" version "${lines}")
    list(JOIN version . version)
    if(NOT version MATCHES "^${_torch_wanted}\\.")
      message(STATUS "Passed over LibTorch ${version} in ${candidate}: ${_torch_wanted} is needed")
    elseif(TRANSXSSM_HAVE_CUDA AND NOT EXISTS ${candidate}/lib/libtorch_cuda.so)
      message(STATUS "Passed over LibTorch ${version} in ${candidate}: it was built without CUDA")
    else()
      set(${out} ${candidate} PARENT_SCOPE)
      set(TORCH_VERSION ${version} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

_find_torch_root(TORCH_ROOT ${_torch_candidates})
if(NOT TORCH_ROOT)
  execute_process(
    COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  _find_torch_root(TORCH_ROOT ${_python_torch})
endif()
if(NOT TORCH_ROOT)
  message(FATAL_ERROR "LibTorch ${_torch_wanted} not found. Run scripts/setup.sh, or pass -DTRANSXSSM_TORCH_ROOT=DIR "
                      "where DIR holds include/ATen and lib/libtorch_cpu.so")
endif()
set_property(CACHE TRANSXSSM_TORCH_ROOT PROPERTY VALUE ${TORCH_ROOT})
message(STATUS "LibTorch ${TORCH_VERSION}: ${TORCH_ROOT}")

add_library(LibTorch::torch INTERFACE IMPORTED)
# ATen's parallel loops are OpenMP, also where this project calls them: without the flag they run on one thread. The
# wheel's own libgomp is linked, so that there is one.
target_compile_options(LibTorch::torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
find_library(TORCH_OPENMP_LIBRARY NAMES libgomp.so.1 gomp PATHS ${TORCH_ROOT}/lib NO_DEFAULT_PATH)
if(TORCH_OPENMP_LIBRARY)
  target_link_libraries(LibTorch::torch INTERFACE ${TORCH_OPENMP_LIBRARY})
else()
  target_link_options(LibTorch::torch INTERFACE -fopenmp)
endif()
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
foreach(dir IN LISTS _nvidia_dirs CUDAToolkit_LIBRARY_DIR)
  target_link_options(LibTorch::torch INTERFACE -Wl,-rpath-link,${dir})
endforeach()
