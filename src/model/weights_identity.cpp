#include "krul/model/weights_identity.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "content_hash.hpp"
#include "decoder_keys.hpp"
#include "krul/model/decoder_file.hpp"

namespace krul {
namespace {

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(static_cast<float>(value)));
  return text;
}

/// A value whatever its type.
std::string meaning_of(const GgufFile& file, std::string_view key) {
  if (const auto number = file.real_value(key)) return text_of(*number);
  if (const auto flag = file.bool_value(key)) return *flag ? "true" : "false";
  if (const auto text = file.string_value(key)) return std::string(*text);
  return content_hash(file.value_bytes(key));
}

std::map<std::string, std::string> meaning_of_keys(const GgufFile& file, std::string_view architecture) {
  const std::string prefix = std::string(architecture) + ".";
  std::map<std::string, std::string> meaning;
  for (const std::string_view key : file.keys()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view name = key.substr(prefix.size());
    if (adds_meaning(file, prefix, name)) meaning[std::string(name)] = meaning_of(file, key);
  }
  return meaning;
}

/// The values of a vector, which is computed with as f32 however it is stored; none if the tensor is no vector.
std::optional<std::vector<float>> vector_values(const GgufTensor& tensor) {
  if (tensor.shape.size() != 1 || tensor.shape[0] == 0 || tensor.shape[0] % block_values(tensor.type) != 0) return {};
  std::vector<float> values(static_cast<std::size_t>(tensor.shape[0]));
  if (!read_rows(tensor, 0, values)) return {};
  return values;
}

/// Type, shape and bytes of each tensor, by its name; a bias of zeros adds nothing.
std::map<std::string, std::string> meaning_of_tensors(const GgufFile& file) {
  std::map<std::string, std::string> meaning;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto values = vector_values(tensor);
    if (values && tensor.name.ends_with(".bias") &&
        std::ranges::all_of(*values, [](float value) { return value == 0; }))
      continue;
    std::string text = std::to_string(static_cast<std::uint32_t>(values ? GgufType::f32 : tensor.type));
    for (const auto extent : tensor.shape) text += "," + std::to_string(extent);
    text += " " + content_hash(values ? std::as_bytes(std::span(*values)) : tensor.data);
    meaning[std::string(tensor.name)] = std::move(text);
  }
  const auto embedding = meaning.find("token_embd.weight"), output = meaning.find("output.weight");
  if (embedding != meaning.end() && output != meaning.end() && embedding->second == output->second)
    meaning.erase(output);
  return meaning;
}

}  // namespace

std::string weights_identity(const GgufFile& file, std::string_view architecture) {
  std::string content = "weights\n";
  const auto add = [&](const std::map<std::string, std::string>& meaning) {
    for (const auto& [name, value] : meaning)
      for (const std::string* text : {&name, &value}) content += std::to_string(text->size()) + ":" + *text;
    content += "\n";
  };
  add(meaning_of_keys(file, architecture));
  add(meaning_of_tensors(file));
  return content_hash(content);
}

}  // namespace krul
