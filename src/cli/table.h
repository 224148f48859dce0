// Text tables on standard output.
#pragma once

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

namespace transxssm {

using Row = std::vector<std::string>;

// Columns as wide as their widest cell, two spaces apart; as many as the first row has.
inline void print_table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    std::cout << line.substr(0, line.find_last_not_of(' ') + 1) << '\n';
  }
}

}  // namespace transxssm
