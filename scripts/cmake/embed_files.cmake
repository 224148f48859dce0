# Writes OUTPUT, a C++ file that holds the text of FILES (src/export/hf_files.h); run by `cmake -P` at build time.
set(entries)
foreach(file IN LISTS FILES)
  file(READ ${file} text)
  get_filename_component(name ${file} NAME)
  string(APPEND entries "    {\"${name}\", R\"embedded(${text})embedded\"},\n")
endforeach()
file(WRITE ${OUTPUT} "// Written by scripts/cmake/embed_files.cmake.
#include \"export/hf_files.h\"

namespace transxssm {

const std::vector<EmbeddedFile>& hf_files() {
  static const std::vector<EmbeddedFile> files{
${entries}  };
  return files;
}

}  // namespace transxssm
")
