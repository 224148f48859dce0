# Target `version`: gives its users core/version.h, the commit and the library versions this build was made from.
# The commit is asked for at every build, but the header is rewritten only when the answer has changed.
function(_header_version out header)
  set(parts)
  if(EXISTS "${header}")
    file(READ "${header}" text)
    foreach(macro IN LISTS ARGN)
      if(text MATCHES "#define ${macro} +([0-9]+)")
        list(APPEND parts ${CMAKE_MATCH_1})
      endif()
    endforeach()
  endif()
  if(parts)
    list(JOIN parts . parts)
  else()
    set(parts none)
  endif()
  set(${out} ${parts} PARENT_SCOPE)
endfunction()

set(_cuda none)
if(TRANSXSSM_HAVE_CUDA)
  set(_cuda ${CUDAToolkit_VERSION})
  set(_toolkit ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_BIN_DIR}/../include)
  find_file(_cudnn_header cudnn_version.h NO_CACHE HINTS ${TORCH_ROOT}/../nvidia/cudnn/include ${_toolkit})
  find_file(_nccl_header nccl.h NO_CACHE HINTS ${TORCH_ROOT}/../nvidia/nccl/include ${_toolkit})
endif()
_header_version(_cudnn "${_cudnn_header}" CUDNN_MAJOR CUDNN_MINOR CUDNN_PATCHLEVEL)
_header_version(_nccl "${_nccl_header}" NCCL_MAJOR NCCL_MINOR NCCL_PATCH)

set(_version_header ${CMAKE_BINARY_DIR}/generated/core/version.h)
add_custom_target(version_header
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DHEADER=${_version_header} -DVERSION=${PROJECT_VERSION}
    -DTORCH=${TORCH_VERSION} -DCUDA=${_cuda} -DCUDNN=${_cudnn} -DNCCL=${_nccl}
    -P ${CMAKE_SOURCE_DIR}/scripts/cmake/write_version.cmake
  BYPRODUCTS ${_version_header}
  COMMENT "Asking git for the commit" VERBATIM)
add_library(version INTERFACE)
target_include_directories(version INTERFACE ${CMAKE_BINARY_DIR}/generated)
add_dependencies(version version_header)
