// Tables of documents, host side.
#include "csrc_cuda/attention/tables_kernel.cuh"
#include "csrc_cuda/common/launch.cuh"

namespace transxssm::kernels {

int64_t attention_table_words(const AttentionShape& shape, AttentionPass pass) {
  if (attention_takes_rows(shape)) return 0;
  const DocumentClasses classes = document_classes(shape, pass);
  const DocumentClass& last = classes.of[classes.count - 1];
  return last.first_word + table_words(last);
}

void make_attention_tables(const AttentionTablesParams& p, CUstream_st* stream) {
  const AttentionShape& s = p.shape;
  if (attention_takes_rows(s)) return;
  const TablesKernelParams params{
      .offsets = p.offsets,
      .tables = p.tables,
      .documents = s.documents,
      .rows = {static_cast<int32_t>(s.packed_columns), s.heads * s.width, s.kv_heads * s.width, s.heads},
      .classes = document_classes(s, p.pass)};
  launch("attention_tables", attention_tables_kernel,
         {static_cast<unsigned>(params.classes.count), kTablesThreads, 0, stream}, params);
}

}  // namespace transxssm::kernels
