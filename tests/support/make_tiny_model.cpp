// make_tiny_model FILE [NAME=VALUE ...]: writes a model with random weights, for programs that need any model.
// Names are chat_template, pre_tokenizer, biases, add_bos (0 or 1), ends (0 or 1), context, rows_to_spare, and split
// (into so many files).

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "tiny_model.hpp"

int main(int count, char** arguments) {
  if (count < 2) return 2;
  krul::testing::TinyModel options;
  int files = 1;
  for (int i = 2; i < count; ++i) {
    const std::string argument = arguments[i];
    const auto gap = argument.find('=');
    const std::string name = argument.substr(0, gap), value = argument.substr(gap + 1);
    if (name == "chat_template") {
      options.chat_template = value;
    } else if (name == "pre_tokenizer") {
      options.pre_tokenizer = value;
    } else if (name == "biases") {
      options.biases = value;
    } else if (name == "add_bos") {
      options.add_bos = value == "1";
    } else if (name == "ends") {
      options.ends = value == "1";
    } else if (name == "context") {
      options.context = static_cast<std::uint32_t>(std::stoul(value));
    } else if (name == "rows_to_spare") {
      options.rows_to_spare = static_cast<std::uint32_t>(std::stoul(value));
    } else if (name == "split") {
      files = std::stoi(value);
    } else {
      return 2;
    }
  }
  const auto model = krul::testing::tiny_model_writer(options);
  if (files == 1) {
    krul::testing::write_file(arguments[1], model.bytes());
    return 0;
  }
  const auto parts = model.split(static_cast<std::uint16_t>(files));
  for (int i = 0; i < files; ++i) {
    char end[64];
    std::snprintf(end, sizeof end, "-%05d-of-%05d.gguf", i + 1, files);
    krul::testing::write_file(std::string(arguments[1]) + end, parts[static_cast<std::size_t>(i)]);
  }
}
