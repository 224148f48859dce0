# Imported target Cudnn::frontend: cuDNN and its header-only C++ frontend, for builds with CUDA.
#
# cuDNN is the one that LibTorch loads: from the PyTorch wheel's nvidia folder or the CUDA toolkit. The frontend is looked
# for in TRANSXSSM_CUDNN_FRONTEND_ROOT, the download cache that scripts/setup.sh fills, and the system's include folders.
set(TRANSXSSM_CUDNN_FRONTEND_ROOT "" CACHE PATH "Folder that holds include/cudnn_frontend.h; empty: search")
if(NOT TRANSXSSM_HAVE_CUDA)
  return()
endif()

set(_toolkit ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_BIN_DIR}/../include)
find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${TORCH_ROOT}/../nvidia/cudnn/include ${_toolkit})
find_library(CUDNN_LIBRARY NAMES libcudnn.so.9 HINTS ${TORCH_ROOT}/../nvidia/cudnn/lib ${CUDAToolkit_LIBRARY_DIR})
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
  HINTS ${TRANSXSSM_CUDNN_FRONTEND_ROOT}/include ${_cache}/cudnn-frontend-1.18.0/include)
foreach(variable IN ITEMS CUDNN_INCLUDE_DIR CUDNN_LIBRARY CUDNN_FRONTEND_INCLUDE_DIR)
  if(NOT ${variable})
    message(FATAL_ERROR "${variable} not found. scripts/setup.sh installs cuDNN's frontend; cuDNN 9 comes with its headers from "
                        "NVIDIA's packages or the wheel nvidia-cudnn-cu13. Or pass -D${variable}=PATH")
  endif()
endforeach()

add_library(Cudnn::frontend INTERFACE IMPORTED)
target_include_directories(Cudnn::frontend SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
target_compile_definitions(Cudnn::frontend INTERFACE CUDNN_FRONTEND_SKIP_JSON_LIB)
target_link_libraries(Cudnn::frontend INTERFACE ${CUDNN_LIBRARY} CUDA::cudart)
