# Imported target Nccl::headers, for builds with CUDA: LibTorch's ProcessGroupNCCL.hpp includes nccl.h. The library is the
# one that LibTorch loads, and nothing but LibTorch calls it.
if(NOT TRANSXSSM_HAVE_CUDA)
  return()
endif()

find_path(NCCL_INCLUDE_DIR nccl.h
  HINTS ${TORCH_ROOT}/../nvidia/nccl/include ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_BIN_DIR}/../include)
if(NOT NCCL_INCLUDE_DIR)
  message(FATAL_ERROR "nccl.h not found: it comes with NVIDIA's package libnccl-dev or the wheel nvidia-nccl-cu13. "
                      "Or pass -DNCCL_INCLUDE_DIR=PATH")
endif()
add_library(Nccl::headers INTERFACE IMPORTED)
target_include_directories(Nccl::headers SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
