# Libraries from the distribution's packages.
find_package(Threads REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)

# Not through pkg-config: on Ubuntu its description asks for a protobuf-lite that the package does not need.
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_trainer.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train REQUIRED)
add_library(sentencepiece::sentencepiece INTERFACE IMPORTED)
target_include_directories(sentencepiece::sentencepiece INTERFACE ${SENTENCEPIECE_INCLUDE_DIR})
target_link_libraries(sentencepiece::sentencepiece INTERFACE ${SENTENCEPIECE_LIBRARY} ${SENTENCEPIECE_TRAIN_LIBRARY})
# Ahead of LibTorch in every link: both Debian's sentencepiece and libc10 export FLAGS_minloglevel and the like, and where
# c10 comes first, sentencepiece's larger objects overwrite c10's switches (a failed allocation then aborts).
target_link_options(sentencepiece::sentencepiece INTERFACE
  "LINKER:--push-state,--no-as-needed,${SENTENCEPIECE_LIBRARY},--pop-state")
