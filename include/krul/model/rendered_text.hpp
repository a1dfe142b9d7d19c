#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace krul {

/// A part of a rendered conversation. In what a template wrote, names of control tokens are those tokens; in what
/// people or a model wrote they are letters.
struct TextPart {
  std::string text;
  bool of_template = false;

  friend bool operator==(const TextPart&, const TextPart&) = default;
};

/// A conversation, part by part: of two parts beside each other never both are the template's.
class RenderedText {
 public:
  RenderedText& write(std::string_view of_template) { return append(of_template, true); }
  RenderedText& quote(std::string_view content) { return append(content, false); }

  [[nodiscard]] const std::vector<TextPart>& parts() const noexcept { return parts_; }
  /// All of it in a row.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const auto& part : parts_) all += part.text;
    return all;
  }

  friend bool operator==(const RenderedText&, const RenderedText&) = default;

 private:
  RenderedText& append(std::string_view text, bool of_template) {
    if (text.empty()) return *this;
    if (parts_.empty() || parts_.back().of_template != of_template) parts_.push_back({{}, of_template});
    parts_.back().text += text;
    return *this;
  }

  std::vector<TextPart> parts_;
};

}  // namespace krul
