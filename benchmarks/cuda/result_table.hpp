#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::bench {

/// A number as tables print it: four digits that count.
[[nodiscard]] inline std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

/// Rows of texts under titles: printed as they come, and written as CSV at the end.
class ResultTable {
 public:
  ResultTable(std::string name, std::vector<std::string> titles) : name_(std::move(name)), titles_(std::move(titles)) {
    print(titles_);
  }

  /// @throws PreconditionError unless there is a cell for each title
  void add(std::vector<std::string> cells) {
    expects(cells.size() == titles_.size(), "ResultTable: a cell for each title");
    print(cells);
    rows_.push_back(std::move(cells));
  }

  /// Fields with commas, quotes or line ends stand in quotes.
  [[nodiscard]] std::string csv() const {
    std::string text = line(titles_);
    for (const auto& row : rows_) text += line(row);
    return text;
  }
  /// Writes NAME.csv.
  /// @return io if it cannot be written
  [[nodiscard]] Status write(const std::filesystem::path& folder) const {
    const auto path = folder / (name_ + ".csv");
    std::ofstream file(path, std::ios::trunc);
    file << csv();
    file.close();
    if (!file) return fail(ErrorCode::io, "cannot write " + path.string());
    return {};
  }

 private:
  static std::string line(const std::vector<std::string>& cells) {
    std::string text;
    for (const std::string& cell : cells) text += (&cell == cells.data() ? "" : ",") + field(cell);
    return text + "\n";
  }
  static std::string field(const std::string& cell) {
    if (cell.find_first_of(",\"\n") == std::string::npos) return cell;
    std::string quoted = "\"";
    for (const char letter : cell) quoted += letter == '"' ? std::string("\"\"") : std::string(1, letter);
    return quoted + "\"";
  }
  void print(const std::vector<std::string>& cells) const {
    std::printf("%-9s", name_.c_str());
    for (const std::string& cell : cells) std::printf(" %16s", cell.c_str());
    std::printf("\n");
    std::fflush(stdout);
  }

  std::string name_;
  std::vector<std::string> titles_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace krul::bench
