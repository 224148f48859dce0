# How this project's targets are made: warnings as errors, one library per folder of src.
# Guesses of the optimiser that are wrong about headers: GCC 12 reports -Wrestrict for "text" + std::string (GCC bug 105651),
# GCC 13 -Warray-bounds and -Wstringop-overflow for the std::vector<bool> in LibTorch's custom_function.h.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds> $<$<COMPILE_LANGUAGE:CXX>:-Wno-stringop-overflow>)
endif()

# Nobody reads errno after sqrt or log; setting it keeps g++ from vectorising them.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno>)

set(TRANSXSSM_WARNINGS
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Werror>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow,-Werror;--Werror=all-warnings>)

# transxssm_library(NAME [PUBLIC lib...] [PRIVATE lib...]): all .cpp files of the calling folder.
# What is PUBLIC may appear in the folder's headers.
function(transxssm_library name)
  cmake_parse_arguments(ARG "" "" "PUBLIC;PRIVATE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  target_compile_options(${name} PRIVATE ${TRANSXSSM_WARNINGS})
endfunction()
