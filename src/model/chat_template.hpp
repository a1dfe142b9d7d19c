#pragma once

#include <span>
#include <string>
#include <string_view>

#include "krul/core/error.hpp"
#include "krul/model/chat_format.hpp"

namespace krul {

/// What a chat template is given.
struct TemplateInput {
  std::span<const Message> messages;
  bool add_generation_prompt = false;
  std::string_view bos, eos;  ///< names of the tokens
};

/// What a chat template makes of some messages. Of Jinja it knows what templates need to render plain turns: blocks are
/// trimmed as `transformers` has it; there are no tools, and no date but the template's own.
/// Fails with unsupported for what it does not know, which the message names, and for what would depend on what a
/// message says; invalid_argument where the template itself refuses the messages. A message that says nothing is none.
/// @complexity  bounded, whatever the template says
[[nodiscard]] Result<std::string> render_template(std::string_view source, const TemplateInput& input);

/// Up to which message a template may tell turns apart by counting them: the sum of the numbers that it names. 0 where
/// it cannot be read.
[[nodiscard]] std::size_t count_reach(std::string_view source);

}  // namespace krul
