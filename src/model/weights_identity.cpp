#include "krul/model/weights_identity.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <vector>

#include "content_hash.hpp"

namespace krul {
namespace {

/// Said by the geometry and the tensors' shapes already.
bool is_said_elsewhere(std::string_view key) {
  constexpr std::array<std::string_view, 11> keys{
      "block_count",          "embedding_length",     "context_length",        "feed_forward_length",
      "vocab_size",           "attention.head_count", "attention.key_length",  "attention.head_count_kv",
      "rope.dimension_count", "rope.freq_base",       "attention.value_length"};
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(static_cast<float>(value)));
  return text;
}

/// A value whatever its type; empty if it says what leaving it out says.
std::string meaning_of(const GgufFile& file, std::string_view key) {
  if (const auto number = file.real_value(key)) return *number == 0 ? std::string() : text_of(*number);
  if (const auto flag = file.bool_value(key)) return *flag ? "true" : "";
  if (const auto text = file.string_value(key)) return *text == "none" ? std::string() : std::string(*text);
  const auto bytes = file.value_bytes(key);
  std::string text;
  if (const auto integers = file.integer_array(key)) {
    for (const auto value : *integers) text += std::to_string(value) + ",";
  } else if (!bytes.empty()) {
    text = content_hash(bytes);
  }
  return text;
}

std::map<std::string, std::string> meaning_of_keys(const GgufFile& file, std::string_view architecture) {
  const std::string prefix = std::string(architecture) + ".";
  const bool is_unscaled =
      file.has(prefix + "rope.scaling.type") && meaning_of(file, prefix + "rope.scaling.type").empty();
  std::map<std::string, std::string> meaning;
  for (const std::string_view key : file.keys()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view name = key.substr(prefix.size());
    if (is_said_elsewhere(name)) continue;
    std::string value = meaning_of(file, key);
    const bool scales_by_one = value == "1" && (name == "rope.scaling.factor" || name == "rope.scale_linear");
    if (value.empty() || scales_by_one || (is_unscaled && name.starts_with("rope.scaling."))) continue;
    meaning[std::string(name)] = std::move(value);
  }
  return meaning;
}

/// Type, shape and bytes of each tensor, by its name.
std::map<std::string, std::string> meaning_of_tensors(const GgufFile& file) {
  std::map<std::string, std::string> meaning;
  for (const GgufTensor& tensor : file.tensors()) {
    std::string text = std::to_string(static_cast<std::uint32_t>(tensor.type));
    for (const auto extent : tensor.shape) text += "," + std::to_string(extent);
    text += " " + content_hash(tensor.data);
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
