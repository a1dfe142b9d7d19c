#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/core/tokens.hpp"

namespace krul::testing {

/// The lines of tests/vectors/tokenizer_NAME.txt behind the first, which says what the file is. The formats are
/// described in scripts/make_tokenizer_vectors.py.
/// @throws PreconditionError if the file cannot be read
[[nodiscard]] inline std::vector<std::string> vector_lines(const std::string& name) {
  std::ifstream file(std::filesystem::path(KRUL_TEST_VECTORS) / ("tokenizer_" + name + ".txt"), std::ios::binary);
  std::vector<std::string> lines;
  std::string line;
  expects(static_cast<bool>(std::getline(file, line)), "vector_lines: the file cannot be read");
  while (std::getline(file, line)) lines.push_back(line);
  return lines;
}

[[nodiscard]] inline unsigned digit(char c) {
  constexpr std::string_view digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
  const auto value = digits.find(c);
  expects(value != std::string_view::npos, "digit: not one of base 64");
  return static_cast<unsigned>(value);
}

[[nodiscard]] inline std::string utf8(std::uint32_t code_point) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | (code_point >> shift & 0x3f)); };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xc0 | code_point >> 6), tail(0)};
  if (code_point < 0x10000) return {static_cast<char>(0xe0 | code_point >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | code_point >> 18), tail(12), tail(6), tail(0)};
}

/// The text of a line of tokenizer_texts.txt.
[[nodiscard]] inline std::string unescape(std::string_view line) {
  std::string text;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\') {
      text += line[i];
    } else if (line.substr(i, 3) == "\\u{") {
      const auto end = line.find('}', i);
      text += utf8(static_cast<std::uint32_t>(std::stoul(std::string(line.substr(i + 3, end - i - 3)), nullptr, 16)));
      i = end;
    } else {
      text += line[++i];
    }
  }
  return text;
}

/// Every text of the vectors.
[[nodiscard]] inline std::vector<std::string> vector_texts() {
  std::vector<std::string> texts;
  for (const auto& line : vector_lines("texts")) texts.push_back(unescape(line));
  return texts;
}

/// The lengths in a line of tokenizer_pieces_*.txt.
[[nodiscard]] inline std::vector<std::size_t> piece_lengths(std::string_view line) {
  std::vector<std::size_t> lengths;
  std::size_t value = 0;
  int shift = 0;
  for (const char c : line) {
    value |= std::size_t{digit(c) & 31U} << shift;
    shift += 5;
    if (digit(c) >= 32) continue;
    lengths.push_back(value);
    value = 0;
    shift = 0;
  }
  return lengths;
}

/// What a line of tokenizer_tokens_*.txt says.
struct ExpectedTokens {
  std::vector<Token> as_text;
  std::vector<Token> parsed;
};

[[nodiscard]] inline ExpectedTokens expected_tokens(std::string_view line) {
  const auto tokens = [](std::string_view digits) {
    std::vector<Token> read;
    for (std::size_t i = 0; i + 2 < digits.size(); i += 3)
      read.push_back(static_cast<Token>(digit(digits[i]) << 12 | digit(digits[i + 1]) << 6 | digit(digits[i + 2])));
    return read;
  };
  const auto gap = line.find(' ');
  return {tokens(line.substr(0, gap)), tokens(gap == std::string_view::npos ? line : line.substr(gap + 1))};
}

}  // namespace krul::testing
