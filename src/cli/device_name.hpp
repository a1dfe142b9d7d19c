#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "number_option.hpp"

namespace krul::cli {

/// What runs a model: the processor, or a CUDA device.
struct DeviceName {
  static constexpr std::string_view processor = "cpu", cuda = "cuda";

  int cuda_index = -1;  ///< of the device; -1: the processor

  /// "cpu", "cuda" for the first device, "cuda:1" for the second; nothing for any other text.
  [[nodiscard]] static std::optional<DeviceName> parse(std::string_view text) {
    if (text == processor) return DeviceName{};
    if (text == cuda) return DeviceName{0};
    if (!text.starts_with(cuda) || !text.substr(cuda.size()).starts_with(':')) return std::nullopt;
    const auto index = parse_number<int>(text.substr(cuda.size() + 1));
    if (!index || *index < 0) return std::nullopt;
    return DeviceName{*index};
  }

  [[nodiscard]] bool is_processor() const noexcept { return cuda_index < 0; }
};

/// --device. Its default is what `text` holds, and the help shows it.
inline CLI::Option* add_device(CLI::App& verb, std::string& text) {
  const auto check = [](const std::string& given) -> std::string {
    return DeviceName::parse(given) ? "" : "\"" + given + "\" is no device: cpu, cuda, or cuda:1 for the second one";
  };
  return verb.add_option("--device", text, "what runs the model: cpu, cuda, or cuda:1 for the second CUDA device")
      ->check(CLI::Validator(check, ""))
      ->capture_default_str();
}

}  // namespace krul::cli
